"""Recorded speech in five languages: the voice prompts of the telephone exchange Asterisk, as Debian packages them.

`asterisk-core-sounds-{en,es,fr,it,ru}-wav` 1.6.1: 25 to 31 minutes each, 8 kHz, 16 bit. English and Spanish: © 2003–2010
Allison Smith, CC BY-SA 3.0; French: © 2006–2008 June Wallack, CC BY-SA 3.0; Italian: © 2012 Carlo Flora, CC BY 3.0;
Russian: © 2010 Maxim Topal (ivrvoice.ru), CC BY 3.0. Nothing of them is copied into this repository.

The class is the language. Only English and Spanish have the same voice; each other language has one voice of its own, so
a network may tell voices and studios as much as languages, and its accuracy says nothing about other speakers. A prompt
is in the test set in all languages or in none.

Features: windows of one second without overlap; frames of 25 ms every 10 ms, Hann window, 40 triangular mel bands from
60 to 3,800 Hz, logarithm.
"""

import wave
import zlib
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bnfold.errors import InputError

TITLE = "Asterisk voice prompts in five languages"
LICENSE = "CC BY-SA 3.0, CC BY 3.0"
VOICES = ("en_US_f_Allison", "es_MX_f_Allison", "fr_CA_f_June", "it_IT_m_Carlo", "ru_RU_f_IvrvoiceRU")
FOLDER = Path("/usr/share/asterisk/sounds")
RATE_HZ = 8000
FRAME, HOP, FFT, BANDS = 200, 80, 256, 40
QUIET = 0.003  # root mean square; a window below it is silence


def load(split: str, folder: Path | None = None) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Log-mel frames `[N, 40, 98]` float32 and languages `[N]` in 0 … 4, in the order of `VOICES`.

    Args:
        split: "train" or "test": every fifth prompt, chosen by its name.
        folder: that holds the folders of `VOICES`; without it, where Debian puts them.

    Raises:
        InputError: the recordings are not there, or not of the expected kind.
    """
    folder = folder or FOLDER
    found, labels = [], []
    for label, voice in enumerate(VOICES):
        paths = sorted((folder / voice).rglob("*.wav"))
        if not paths:
            packages = " ".join(f"asterisk-core-sounds-{language}-wav" for language in ("en", "es", "fr", "it", "ru"))
            raise InputError(
                f"{folder / voice} holds no recordings. On Debian: apt-get install --no-install-recommends {packages}; "
                "elsewhere unpack these packages and name the folder asterisk/sounds by --data."
            )
        for path in paths:
            name = path.relative_to(folder / voice).as_posix()
            if (zlib.crc32(name.encode()) % 5 == 0) == (split == "test"):
                seconds = loud_seconds(read_wav(path))
                found.append(seconds)
                labels += [label] * len(seconds)
    return log_mel(np.concatenate(found)), np.array(labels, np.int64)


def read_wav(path: Path) -> NDArray[np.float32]:
    """The samples of a recording, in −1 … 1.

    Raises:
        InputError: it is not a WAV file with one channel of 16 bits at 8 kHz.
    """
    try:
        with wave.open(str(path)) as recording:
            kind = (recording.getnchannels(), recording.getsampwidth(), recording.getframerate())
            samples = recording.readframes(recording.getnframes())
    except (wave.Error, EOFError) as error:
        raise InputError(f"{path} is not a WAV file ({error}).") from error
    if kind != (1, 2, RATE_HZ):
        raise InputError(f"{path} has {kind[0]} channels of {8 * kind[1]} bits at {kind[2]} Hz, not one of 16 at {RATE_HZ}.")
    return np.frombuffer(samples, "<i2").astype(np.float32) / 32768


def loud_seconds(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """The seconds `[N, 8000]` of a recording that are not silent; what is left at the end is dropped."""
    seconds = samples[: len(samples) // RATE_HZ * RATE_HZ].reshape(-1, RATE_HZ)
    return seconds[np.sqrt((seconds**2).mean(1)) > QUIET]


def log_mel(seconds: NDArray[np.float32]) -> NDArray[np.float32]:
    """The logarithm of the energy in 40 mel bands, `[N, 40, 98]`, of seconds `[N, 8000]`."""
    frames = np.lib.stride_tricks.sliding_window_view(seconds, FRAME, axis=1)[:, ::HOP]
    spectra = np.empty((len(frames), BANDS, frames.shape[1]), np.float32)
    for place, each in enumerate(frames):
        power = np.abs(np.fft.rfft(each * np.hanning(FRAME), FFT)) ** 2
        spectra[place] = np.log(power @ mel_bands() + 1e-6).T
    return spectra


@cache
def mel_bands() -> NDArray[np.float64]:
    """Weights `[FFT / 2 + 1, 40]` of triangular bands, evenly spaced on the mel scale 2595·log10(1 + f / 700)."""
    low, high = (2595 * np.log10(1 + hz / 700) for hz in (60, 3800))
    edges = 700 * (10 ** (np.linspace(low, high, BANDS + 2) / 2595) - 1)
    hz = np.arange(FFT // 2 + 1)[:, None] * RATE_HZ / FFT
    rising = (hz - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - hz) / (edges[2:] - edges[1:-1])
    return np.clip(np.minimum(rising, falling), 0, None)
