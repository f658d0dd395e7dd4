"""Ten digits by voices that people lent to free engines: `python docs/digit_voices.py OUT` fills a folder like FSDD's.

Four recorded speakers are few to learn digits from. Debian's packages hold more people: `apt install flite festival
festvox-kdlpc16k asterisk-core-sounds-en-wav`. Flite's kal, rms (American men), awb (a Scot) and slt (an American
woman) and Festival's ked (an American man) are built from recordings; Asterisk's digits are recordings (Allison Smith,
CC BY-SA 3.0). An engine says every digit at several rates and pitches; all are kept at 8 kHz, as FSDD's are. The files
are for training and are not shipped: `aikit train --real ESC-10 FSDD OUT`.
"""

import argparse
import shutil
import subprocess
from itertools import product
from pathlib import Path

import soundfile
from librosa import load
from tqdm import tqdm

from aikit.synth.clips import DIGIT_NAMES

VOICES = {  # speaker -> who says it, by which voice, at which pitch as a rule (Hz)
    "kal": ("flite", "kal16", 105),
    "rms": ("flite", "rms", 105),
    "awb": ("flite", "awb", 120),
    "slt": ("flite", "slt", 190),
    "ked": ("text2wave", "voice_ked_diphone", 105),
}
ASTERISK = Path("/usr/share/asterisk/sounds/en_US_f_Allison/digits")
TAKES = tuple(product((0.85, 1.0, 1.2), (0.9, 1.0, 1.12)))  # how long, how high: factors


def command(speaker: str, text: str, longer: float, higher: float, out: Path) -> tuple[list[str], str]:
    """What to run, and what it reads. Flite's rms keeps his own pitch whatever is asked for."""
    engine, voice, pitch = VOICES[speaker]
    if engine == "flite":
        settings = {"duration_stretch": longer, "int_f0_target_mean": pitch * higher}
        options = [part for name, value in settings.items() for part in ("--setf", f"{name}={value}")]
        return ["flite", "-voice", voice, *options, "-t", text, "-o", str(out)], ""
    settings = (
        f"(begin ({voice}) (Parameter.set 'Duration_Stretch {longer}) (set! int_lr_params '((target_f0_mean "
        f"{pitch * higher}) (target_f0_std 14) (model_f0_mean 170) (model_f0_std 34))))"
    )
    return ["text2wave", "-eval", settings, "-o", str(out)], text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args()
    for tool in ("flite", "text2wave"):
        if shutil.which(tool) is None:
            parser.error(f"{tool} is missing; on Debian: apt install flite festival festvox-kdlpc16k")
    if not ASTERISK.is_dir():
        parser.error(f"{ASTERISK} is missing; on Debian: apt install asterisk-core-sounds-en-wav")
    arguments.out.mkdir(parents=True, exist_ok=True)
    for digit, name in enumerate(tqdm(DIGIT_NAMES)):
        for speaker, (take, how) in product(VOICES, enumerate(TAKES)):
            file = arguments.out / f"{digit}_{speaker}_{take}.wav"
            run, read = command(speaker, name, *how, file)
            subprocess.run(run, input=read, text=True, check=True)
            soundfile.write(file, *load(file, sr=8000))
        shutil.copy(ASTERISK / f"{digit}.wav", arguments.out / f"{digit}_allison_0.wav")


if __name__ == "__main__":
    main()
