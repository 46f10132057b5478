"""Tables, pictures, pages and cards of what the evaluation measured."""
