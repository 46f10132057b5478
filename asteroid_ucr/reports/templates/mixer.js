// Plays the stems of a mixer together; events are caught at the document, since results come later.
const stemsAround = (element) => [...(element.closest?.(".mixer")?.querySelectorAll("audio") ?? [])];
const pressed = (stem, name, on) =>
  stem.parentElement.querySelector(`[data-do=${name}]`).setAttribute("aria-pressed", on);

document.addEventListener("click", (event) => {
  const button = event.target.closest?.(".mixer button");
  if (!button) return;
  const stems = stemsAround(button), own = button.parentElement.querySelector("audio");
  if (button.dataset.do === "play") {
    const playing = stems.some((stem) => !stem.paused);
    for (const stem of stems) {
      stem.currentTime = stems[0].currentTime;
      playing ? stem.pause() : stem.play();
    }
  } else if (button.dataset.do === "mute") {
    own.muted = !own.muted;
  } else {
    const alone = stems.every((stem) => stem.muted === (stem !== own));
    for (const stem of stems) stem.muted = !alone && stem !== own;
  }
});

document.addEventListener("volumechange", (event) => {
  const stems = stemsAround(event.target);
  for (const stem of stems) {
    pressed(stem, "mute", stem.muted);
    pressed(stem, "solo", stems.length > 1 && stems.every((other) => other.muted === (other !== stem)));
  }
}, true);

document.addEventListener("seeked", (event) => {
  for (const stem of stemsAround(event.target)) {
    if (Math.abs(stem.currentTime - event.target.currentTime) > 0.1) stem.currentTime = event.target.currentTime;
  }
}, true);
