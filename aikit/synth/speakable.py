"""Written text -> text that can be spoken: the rewriter of paper §3.2, as rules.

Knows: markdown, numbers, abbreviations, units and symbols in English, Spanish and Mandarin.
Does not know: voices or sound (`speech.py`, which offers `speakable` too).  Taught in notebook 01.
"""

import re
import unicodedata
from functools import cache
from pathlib import Path

LANGUAGE_OF = {"en": "en", "en-us": "en", "en-gb": "en", "es": "es", "cmn": "cmn", "zh": "cmn"}

_MARKDOWN = tuple((re.compile(pattern, re.M), new) for pattern, new in (
    (r"!?\[([^\]\n]*)\]\([^)\n]*\)", r"\1"),                  # links and images -> their text
    (r"```\w*|</?[a-zA-Z][^<>\n]{0,80}>|https?://\S+", " "),    # fences, HTML tags, addresses
    (r"(?<=[\w`*)])[ \t]*\n(?=\s*(?:\n|[-*+#]|\d+[.)]))", ".\n"),  # ends of paragraphs and items
    (r"^\s*(?:(?:#{1,6}|>|[-*+]|\d+[.)])\s+)+", ""),            # headings, quotes, bullets
    (r"(?<=\d)\s*[*×]\s*(?=\d)", " × "),                      # a product, not emphasis
    (r"([$€£¥])\s*(\d[\d.,]*\d|\d)((?: (?:thousand|million|billion))?)", r"\2\3 \1"),  # $5 -> 5 $
    (r"(?<=\d)⁄(?=\d)", "/"),                                # ½
    (r"\|", ", "),                                            # table cells
))
NUMBERED = ("No.", "núm.")  # only before a number
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*(?:(?:st|nd|rd|th)\b|\.?[ºª])?")
_CENTS = {"en": re.compile(r"([1-9]\d*)\.(\d\d)\s*([$€£])(?!\d)"),
          "es": re.compile(r"([1-9]\d*),(\d\d)\s*([$€£])(?!\d)")}


@cache
def _book() -> dict:
    """How what is written is spoken, by language: ``texts/speakable.yaml``."""
    import yaml
    return yaml.safe_load((Path(__file__).parent / "texts" / "speakable.yaml").read_text("utf-8"))


@cache
def _forms(language: str) -> list[tuple[re.Pattern, str]]:
    """Patterns and what is spoken, the longest first; one of a unit before many of it."""
    book, forms = _book()[language], []
    for form in sorted(book["words"], key=len, reverse=True):
        before = r"(?<![\w.,/])" if form[0].isalnum() else ""
        after = r"(?![^\W_])" if form[-1].isalnum() else r"\s*(?=\d)" if form in NUMBERED else ""
        pattern = re.compile(before + re.escape(form) + after, re.I if "." in form else 0)
        forms.append((pattern, f" {book['words'][form]} "))
    units = book["units"] | book["money"]
    for unit in sorted(units, key=len, reverse=True):
        one, *_, many = units[unit] * 2
        end = re.escape(unit) + (r"(?![^\W_])" if unit[-1].isalnum() else "")
        if one != many:
            forms.append((re.compile(rf"(?<![\d.,:/])1\s*{end}"), f" {one} "))
        forms.append((re.compile(rf"(?<=\d)\s*{end}" if unit[0].isalpha() else end), f" {many} "))
    return forms


def _chinese(number: int) -> str:
    """A number below 10^8 in Chinese characters: 1205 -> 一千二百零五."""
    if number >= 10_000:
        high, low = divmod(number, 10_000)
        zero = "零" if 0 < low < 1_000 else ""
        low_text = "一" * (10 <= low < 20) + _chinese(low) if low else ""
        return _chinese(high) + "万" + zero + low_text
    text = "".join("零一二三四五六七八九"[int(digit)] + unit * (digit != "0")
                   for digit, unit in zip(f"{number:04d}", ("千", "百", "十", ""), strict=True))
    text = re.sub("零+", "零", text).strip("零") or "零"
    return text.removeprefix("一") if text.startswith("一十") else text


def _cardinal(digits: str, language: str, to: str = "cardinal") -> str:
    """Digits in words; codes (a leading zero, or nine digits and more) one digit at a time."""
    from num2words import num2words
    if len(digits) > 8 or (int(digits[0]) == 0 and len(digits) > 1):
        return " ".join(_cardinal(digit, language) for digit in digits)
    number = int(digits)
    return _chinese(number) if language == "cmn" else num2words(number, lang=language, to=to)


def _clock(hour: int, rest: list[str], language: str) -> str:
    """A time of day: 7:00 seven, 3:05 three oh five; 7:00 七点, 3:05 三点零五分."""
    parts = [_cardinal(str(hour), language)]
    for digits in rest:
        zero = _book()[language]["zero"] if digits[0] == "0" and int(digits) else ""
        parts.append(f"{zero} {_cardinal(str(int(digits)), language)}" if int(digits) else "")
    if language == "cmn":
        hour_text = "两" if hour == 2 else parts[0]
        return hour_text + "点" + "".join(f"{p}{u}" for p, u in zip(parts[1:], "分秒") if p)
    return " ".join(filter(None, parts))


def _with_cents(match: re.Match) -> str:
    return f"{match[1]} {match[3]} {int(match[2]) or ''}"


def _chinese_order(text: str) -> str:
    """What Chinese says otherwise: the percent sign first, years digit by digit, 两 before a measure."""
    text = re.sub(r"(\d[\d.,]*)\s*%", r"百分之\1", text)
    text = re.sub(r"\d{4}(?=年)", lambda year: "".join(map(_chinese, map(int, year[0]))), text)
    return re.sub(r"(?<![\d.,:])2(?=\s*[个位次只点天杯])", "两", text)


def _spell(match: re.Match, language: str) -> str:
    """A whole number, a decimal, a time of day or an ordinal in words."""
    digits = re.sub(r"\D+$", "", match[0])
    group = "." if language == "es" else ","
    plain = re.sub(rf"{re.escape(group)}(?=\d{{3}}(?!\d))", "", digits)      # 1,234 -> 1234
    if plain.isdecimal():
        ordinal = digits != match[0] and language != "cmn" and len(plain) < 9
        return f" {_cardinal(plain, language, 'ordinal' if ordinal else 'cardinal')} "
    whole, *rest = re.split(r"[.,:]", plain)
    if ":" in plain:
        return f" {_clock(int(whole), rest, language)} "
    spoken = [" ".join(_cardinal(digit, language) for digit in part) for part in rest]
    point = f" {_book()[language]['point']} "
    return f" {point.join([_cardinal(whole, language), *spoken])} "


def _readable(character: str) -> str:
    """The character if a voice can read it or pause at it, else a space (emoji, brackets, #)."""
    spoken = unicodedata.category(character)[0] in "LM" or character in ".,;:!?'’-¿¡。，、；：！？"
    return character if spoken else " "


def speakable(text: str, language: str = "en") -> str:
    """Rewrite text so that a voice can read it, without markdown, digits or symbols (paper §3.2).

    Markdown, HTML tags, addresses and emoji go; numbers, decimals, ordinals, ranges, times, money,
    units, common abbreviations and symbols become words.  What is already speakable stays as it is.

    Parameters
    ----------
    text : str
        For example a chat model's reply: ``"**Boil** at 100 °C, e.g. for 3-5 min."``
    language : str
        "en", "en-us", "en-gb", "es", "cmn" or "zh".

    Returns
    -------
    str, one line; empty when nothing can be spoken.

    Raises
    ------
    ValueError
        Unknown language.
    """
    if language not in LANGUAGE_OF:
        raise ValueError(f"unknown language {language!r}: use one of {', '.join(LANGUAGE_OF)}")
    language = LANGUAGE_OF[language]
    text = "".join(c if c in "ºª，：；！？" else unicodedata.normalize("NFKC", c)
                   for c in unicodedata.normalize("NFC", text))
    for pattern, new in _MARKDOWN:
        text = pattern.sub(new, text)
    book = _book()[language]
    if language == "cmn":
        text = _chinese_order(text)
    else:                                                   # 3.50 $ -> 3 $ 50
        text = _CENTS[language].sub(_with_cents, text)
    text = re.sub(r"(?<=\d)\s*[-–—−]\s*(?=\d)", book["to"], text)
    text = re.sub(r"(?<!\w)[-−](?=\d)", book["minus"], text)
    for pattern, spoken in _forms(language):
        text = pattern.sub(spoken, text)
    text = _NUMBER.sub(lambda match: _spell(match, language), text)
    text = re.sub(r"(?<!\w)-+|-+(?!\w)", " ", "".join(map(_readable, text)))   # lone dashes
    text = re.sub(r"\s+(?=[.,;:!?。，、；：！？])", "", " ".join(text.split()))
    return re.sub(r"(?<=[\u3001-\u9fff，：；！？]) (?=[\u4e00-\u9fff])", "", text)
