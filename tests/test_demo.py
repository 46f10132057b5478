"""The page of the command `demo`, in a real browser, and what its buttons do."""

import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from asteroid_ucr import UserError
from asteroid_ucr.cli import main
from asteroid_ucr.demo import Studio, build_page, serve

# Decodes the sounds of all players: their length in seconds and their loudest sample.
LISTEN = """
const done = arguments[0], context = new AudioContext();
Promise.all([...document.querySelectorAll(".mixer audio")].map(async (player) => {
  const sound = await context.decodeAudioData(await (await fetch(player.src)).arrayBuffer());
  const loudest = sound.getChannelData(0).reduce((most, x) => Math.max(most, Math.abs(x)), 0);
  return [sound.duration, loudest, player.duration];
})).then(done, (error) => done(String(error)));
"""

TABS = {"Separate": "Separate", "Keep a stem": "Generate the others", "Vary": "Make a variation"}
OPEN_TAB = """
[...document.querySelectorAll("button[role=tab]")].find((tab) => tab.innerText === arguments[0]
  && !tab.closest(".visually-hidden")).click();
"""


@pytest.fixture
def song(tmp_path) -> Path:
    """Two seconds of clicks and a tone, in stereo at 44.1 kHz."""
    time = np.arange(2 * 44_100) / 44_100
    noise = np.random.default_rng(0).standard_normal(len(time)) * np.exp(-20 * (time % 0.5))
    sound = 0.2 * noise + 0.2 * np.sin(2 * np.pi * 110 * time)
    sf.write(tmp_path / "my song.wav", np.stack([sound, 0.5 * sound], 1), 44_100)
    return tmp_path / "my song.wav"


@pytest.fixture
def browser():
    """Chromium without a window, which plays nothing to the loudspeakers."""
    webdriver = pytest.importorskip("selenium.webdriver")
    programs = [shutil.which(name) for name in ("chromium", "chromedriver")]
    if not all(programs):
        pytest.skip("needs chromium and chromedriver (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    words = "--headless=new --no-sandbox --mute-audio --disable-gpu --window-size=1200,1100"
    for word in [*words.split(), "--autoplay-policy=no-user-gesture-required"]:
        options.add_argument(word)
    driver = webdriver.Chrome(options, webdriver.ChromeService(programs[1]))
    driver.set_script_timeout(30)
    yield driver
    driver.quit()


def wait(driver, script, *arguments):
    """Waits until a script returns something true, and returns it."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, 60, 0.1).until(lambda d: d.execute_script(script, *arguments))


def press(driver, text):
    """Presses the button with this text in the open tab or among the players."""
    find = "[...document.querySelectorAll('button.primary, .mixer button')].find("
    find += "button => button.innerText === arguments[0] && button.offsetParent)"
    wait(driver, f"const button = {find}; button?.click(); return button", text)


def result(driver, button):
    """Presses a button, and returns what the new players play."""
    before = driver.execute_script("return document.querySelector('.mixer audio')?.src ?? ''")
    press(driver, button)
    ready = "const all = [...document.querySelectorAll('.mixer audio')]; return all.length"
    ready += " && all[0].src !== arguments[0] && all.every(player => player.duration)"
    wait(driver, ready, before)
    return driver.execute_async_script(LISTEN)


@pytest.fixture
def model(small_model, tmp_path) -> str:
    """A small model with a prior, since the page is tested here and not the music."""
    small_model.add_prior(widths=(8, 16), kernel_sizes=(3, 3))
    small_model.save(tmp_path / "small.pth")
    return str(tmp_path / "small.pth")


def test_the_page_separates_generates_and_varies(song, model, tmp_path, browser):
    pytest.importorskip("gradio")
    sounds = tmp_path / "sounds"
    sounds.mkdir()
    page = build_page(Studio(sounds, "cpu"), [model])
    try:
        browser.get(serve(page, sounds, prevent_thread_lock=True, quiet=True))
        find_input = "return document.querySelector('#sound input[type=file]')"
        wait(browser, find_input).send_keys(str(song))
        wait(browser, "return document.querySelector('#sound').innerText.includes('0:02')")
        for tab, button in TABS.items():
            browser.execute_script(OPEN_TAB, tab)
            heard = result(browser, button)
            assert len(heard) == 2  # one player for each stem
            for length, loudest, shown in heard:
                assert abs(length - 2) < 0.01 and abs(shown - 2) < 0.01 and loudest > 0.005
        press(browser, "Play or pause all")
        press(browser, "Solo")
        players = "[...document.querySelectorAll('.mixer audio')]"
        wait(browser, f"return {players}.every(p => p.currentTime) && {players}[1].muted")
    finally:
        page.close()


def test_stems_keep_rate_and_channels_and_add_up(song, model, tmp_path):
    html = Studio(tmp_path, "cpu").separate(model, 0, str(song))
    assert html.count("<audio") == 2 and "drums.wav" in html and "mix.wav" in html
    stems = [sf.read(next(tmp_path.glob(f"*/{name}.wav"))) for name in ("drums", "bass")]
    assert {rate for _, rate in stems} == {44_100}
    assert np.abs(sum(wav for wav, _ in stems) - sf.read(song)[0]).max() < 1e-4


def test_a_kept_stem_comes_out_as_it_went_in_and_the_seed_decides(model, tmp_path):
    wav = 0.1 * np.random.default_rng(0).standard_normal(24_000).astype("float32")
    sf.write(tmp_path / "bass.wav", wav, 24_000, "FLOAT")
    made = []
    for number, seed in enumerate((1, 1, 2)):
        folder = tmp_path / str(number)
        folder.mkdir()
        Studio(folder, "cpu").accompany(model, seed, str(tmp_path / "bass.wav"), "bass")
        made.append(sf.read(next(folder.glob("*/drums.wav")))[0])
        assert np.array_equal(sf.read(next(folder.glob("*/bass.wav")), dtype="float32")[0], wav)
    assert np.array_equal(made[0], made[1]) and not np.array_equal(made[0], made[2])


def test_long_and_missing_sounds_are_refused(song, tmp_path):
    studio = Studio(tmp_path, "cpu", max_seconds=1.5)
    for action, more in ((studio.separate, ()), (studio.vary, (0.4,))):
        with pytest.raises(UserError, match=r"has 2 s, and this page takes 1\.5 s at most"):
            action("drums-bass", 0, str(song), *more)
        with pytest.raises(UserError, match="choose a file, or record something"):
            action("drums-bass", 0, None, *more)


def test_without_gradio_the_command_says_what_to_install(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["demo", "--no_browser"]) == 2
    assert "run `pip install 'asteroid-ucr[demo]'`" in capsys.readouterr().err
