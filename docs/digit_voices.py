"""Ten digits by voices that people lent to free engines: `python docs/digit_voices.py OUT` fills a folder like FSDD's.

Four recorded speakers are few to learn digits from. Free packages hold more people: `apt install flite festival
festvox-kdlpc16k festvox-italp16k festvox-itapc16k festvox-czech-dita festvox-czech-krb festvox-czech-machac
festvox-czech-ph festvox-suopuhe-lj festvox-suopuhe-mv festvox-ca-ona-hts asterisk-core-sounds-en-wav`, `pip install
ttspico` (it is compiled then). Flite's kal, rms (American men), awb (a Scot) and slt (an American woman), Festival's ked
(an American man) and SVOX Pico's two women, American and English, are built from recordings; Asterisk's digits are
recordings (Allison Smith, CC BY-SA 3.0). So are Festival's Italians, Czechs, Finns and the Catalan; they read English
digits as spelled in their languages, with an accent, as many a person has one. An engine says every digit at several
rates, and pitches where it can; all are kept at 8 kHz, as FSDD's are. The files are for training and are not shipped:
`aikit train --real ESC-10 FSDD OUT`.
"""

import argparse
import importlib.util
import shutil
import subprocess
from itertools import product
from pathlib import Path

import numpy as np
import soundfile
from librosa import load, resample
from tqdm import tqdm

from aikit.synth.clips import DIGIT_NAMES

ASTERISK = Path("/usr/share/asterisk/sounds/en_US_f_Allison/digits")
LENGTHS = (0.85, 1.0, 1.2)
TAKES = tuple(product(LENGTHS, (0.9, 1.0, 1.12)))  # how long, how high: factors
RATE = 8000


def flite(voice: str, text: str, longer: float, pitch: float, out: Path) -> None:
    """Flite's rms keeps his own pitch whatever is asked for."""
    settings = {"duration_stretch": longer, "int_f0_target_mean": pitch}
    options = [part for name, value in settings.items() for part in ("--setf", f"{name}={value}")]
    subprocess.run(["flite", "-voice", voice, *options, "-t", text, "-o", str(out)], check=True)
    soundfile.write(out, *load(out, sr=RATE))


def festival(voice: str, text: str, longer: float, pitch: float, out: Path) -> None:
    settings = (
        f"(begin ({voice}) (Parameter.set 'Duration_Stretch {longer}) (set! int_lr_params '((target_f0_mean "
        f"{pitch}) (target_f0_std 14) (model_f0_mean 170) (model_f0_std 34))))"
    )
    subprocess.run(["text2wave", "-eval", settings, "-o", str(out)], input=text, text=True, check=True)
    soundfile.write(out, *load(out, sr=RATE))


def accented(voice: str, text: str, encoding: str, longer: float, out: Path) -> None:
    settings = f"(begin ({voice}) (Parameter.set 'Duration_Stretch {longer}))"
    command = ["text2wave", "-eval", settings, "-F", str(RATE), "-o", str(out)]
    subprocess.run(command, input=text.encode(encoding), check=True)


def pico(voice: str, text: str, longer: float, pitch: float, out: Path) -> None:
    """Pico speaks 16-bit samples at 16 kHz; at its usual volume they clip, and in the last quarter second is a click."""
    from ttspico import TtsEngine

    engine = TtsEngine(voice)
    engine.rate, engine.pitch, engine.volume = round(100 / longer), round(100 * pitch), 50
    samples = np.frombuffer(engine.speak(text), np.int16)[:-4000] / np.float32(2**15)
    soundfile.write(out, resample(samples, orig_sr=16000, target_sr=RATE), RATE)


VOICES = {  # speaker -> who says it, by which voice, at which pitch as a rule (Hz; of Pico's own for the two women)
    "kal": (flite, "kal16", 105),
    "rms": (flite, "rms", 105),
    "awb": (flite, "awb", 120),
    "slt": (flite, "slt", 190),
    "ked": (festival, "voice_ked_diphone", 105),
    "american": (pico, "en-US", 0.85),
    "english": (pico, "en-GB", 0.85),
}
SPELLED = {  # the ten digits as somebody would write them down who reads no English; what Festival expects
    "Italian": ("siro uan tu tri for faiv sics seven eit nain", "utf-8"),
    "Czech": ("zírou uan tú trí fór fajv siks sevn ejt najn", "iso-8859-2"),
    "Finnish": ("siirou uan tuu trii foor faiv siks seven eit nain", "utf-8"),
    "Catalan": ("zirou uan tu tri for faiv sics seven eit nain", "iso-8859-1"),
}
ACCENTS = {  # speaker -> by which voice, with which accent; women: lp, dita, lj, ona; krb is a boy
    "lp": ("voice_lp_diphone", "Italian"),
    "pc": ("voice_pc_diphone", "Italian"),
    "dita": ("voice_czech_dita", "Czech"),
    "krb": ("voice_czech_krb", "Czech"),
    "machac": ("voice_czech_machac", "Czech"),
    "ph": ("voice_czech_ph", "Czech"),
    "mv": ("voice_hy_fi_mv_diphone", "Finnish"),
    "lj": ("voice_suo_fi_lj_diphone", "Finnish"),
    "ona": ("voice_upc_ca_ona_hts", "Catalan"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    for tool in ("flite", "text2wave"):
        if shutil.which(tool) is None:
            parser.error(f"{tool} is missing; on Debian: apt install flite festival festvox-kdlpc16k")
    if importlib.util.find_spec("ttspico") is None:
        parser.error("ttspico is missing: pip install ttspico")
    if not ASTERISK.is_dir():
        parser.error(f"{ASTERISK} is missing; on Debian: apt install asterisk-core-sounds-en-wav")
    arguments.out.mkdir(parents=True, exist_ok=True)
    for digit, name in enumerate(tqdm(DIGIT_NAMES)):
        for speaker, (take, (longer, higher)) in product(VOICES, enumerate(TAKES)):
            say, voice, pitch = VOICES[speaker]
            say(voice, name, longer, pitch * higher, arguments.out / f"{digit}_{speaker}_{take}.wav")
        for speaker, (take, longer) in product(ACCENTS, enumerate(LENGTHS)):
            voice, accent = ACCENTS[speaker]
            spelled, encoding = SPELLED[accent]
            path = arguments.out / f"{digit}_{speaker}_{take}.wav"
            accented(voice, spelled.split()[digit], encoding, longer, path)
            if not path.exists():  # it says so, but returns 0
                parser.error(f"Festival has no {voice}; the packages it needs stand at the top of this script")
        shutil.copy(ASTERISK / f"{digit}.wav", arguments.out / f"{digit}_allison_0.wav")


if __name__ == "__main__":
    main()
