"""Written text -> text that can be spoken: the rewriter of paper §3.2, as rules.

Knows: markdown, numbers, abbreviations, units and symbols in English, Spanish and Mandarin.
Does not know: voices or sound (`speech.py`, which offers `speakable` too).  Taught in notebook 01.
"""

import re
import unicodedata

LANGUAGE_OF = {"en": "en", "en-us": "en", "en-gb": "en", "es": "es", "cmn": "cmn", "zh": "cmn"}

_MARKDOWN = tuple((re.compile(pattern, re.M), new) for pattern, new in (
    (r"!?\[([^\]\n]*)\]\([^)\n]*\)", r"\1"),                  # links and images -> their text
    (r"```\w*|</?[a-zA-Z][^<>\n]{0,80}>|https?://\S+", " "),    # fences, HTML tags, addresses
    (r"(?<=[\w`*)])[ \t]*\n(?=\s*(?:\n|[-*+#]|\d+[.)]))", ".\n"),  # ends of paragraphs and items
    (r"^\s*(?:(?:#{1,6}|>|[-*+]|\d+[.)])\s+)+", ""),            # headings, quotes, bullets
    (r"(?<=\d)\s*[*×]\s*(?=\d)", " × "),                      # a product, not emphasis
    (r"([$€£¥])\s*(\d[\d.,]*\d|\d)", r"\2 \1"),               # $5 -> 5 $, as it is spoken
    (r"\|", ", "),                                            # table cells
))
_WORDS = {      # written -> spoken.  Letters without a full stop are a unit: only after a digit
    "en": {"e.g.": "for example", "i.e.": "that is", "etc.": "et cetera", "vs.": "versus",
           "approx.": "approximately", "Mr.": "mister", "Mrs.": "missus", "Dr.": "doctor",
           "km/h": "kilometres per hour", "km": "kilometres", "cm": "centimetres",
           "mm": "millimetres", "m": "metres", "kg": "kilograms", "g": "grams", "ml": "millilitres",
           "min": "minutes", "s": "seconds", "dB": "decibels", "Hz": "hertz", "kHz": "kilohertz",
           "°C": "degrees Celsius", "°F": "degrees Fahrenheit", "°": "degrees", "%": "percent",
           "&": "and", "+": "plus", "=": "equals", "@": "at", "×": "times", "$": "dollars",
           "€": "euros", "£": "pounds", "¥": "yuan"},
    "es": {"p.ej.": "por ejemplo", "p. ej.": "por ejemplo", "etc.": "etcétera", "Sr.": "señor",
           "Sra.": "señora", "Dr.": "doctor", "Dra.": "doctora", "EE. UU.": "Estados Unidos",
           "aprox.": "aproximadamente", "km/h": "kilómetros por hora", "km": "kilómetros",
           "cm": "centímetros", "mm": "milímetros", "m": "metros", "kg": "kilogramos",
           "g": "gramos", "ml": "mililitros", "min": "minutos", "s": "segundos",
           "dB": "decibelios", "Hz": "hercios", "kHz": "kilohercios", "°C": "grados Celsius",
           "°F": "grados Fahrenheit", "°": "grados", "%": "por ciento", "&": "y", "+": "más",
           "=": "igual a", "@": "arroba", "×": "por", "$": "dólares", "€": "euros",
           "£": "libras", "¥": "yuanes"},
    "cmn": {"km/h": "公里每小时", "km": "公里", "cm": "厘米", "mm": "毫米", "m": "米", "kg": "公斤",
            "g": "克", "ml": "毫升", "min": "分钟", "s": "秒", "dB": "分贝", "Hz": "赫兹",
            "kHz": "千赫", "°C": "摄氏度", "°F": "华氏度", "°": "度", "&": "和", "+": "加",
            "=": "等于", "@": "艾特", "×": "乘", "$": "美元", "€": "欧元", "£": "英镑", "¥": "元"},
}
_MINUS = {"en": " minus ", "es": " menos ", "cmn": "负"}
_TO = {"en": " to ", "es": " a ", "cmn": "到"}
_POINT = {"en": "point", "es": "coma", "cmn": "点"}
_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*(?:(?:st|nd|rd|th)\b|\.?[ºª])?")


def _word_pattern(form: str) -> str:
    unit = form[0].isalpha() and "." not in form
    before = r"(?<=\d)\s*" if unit else r"(?<!\w)" if form[0].isalpha() else r"\s*"
    return before + re.escape(form) + (r"(?![^\W\d_])" if form[-1].isalpha() else "")


_FORMS = {language: [(re.compile(_word_pattern(form), re.I if "." in form else 0),
                      f" {words[form]} ")
                     for form in sorted(words, key=len, reverse=True)]
          for language, words in _WORDS.items()}


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
        return f" {' '.join(_cardinal(part, language) for part in (whole, *rest) if int(part))} "
    spoken = [" ".join(_cardinal(digit, language) for digit in part) for part in rest]
    return f" {f' {_POINT[language]} '.join([_cardinal(whole, language), *spoken])} "


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
    if language == "cmn":
        text = re.sub(r"(\d[\d.,]*)\s*%", r"百分之\1", text)      # the sign is spoken first
    text = re.sub(r"(?<=\d)\s*[-–—−]\s*(?=\d)", _TO[language], text)
    text = re.sub(r"(?<!\w)[-−](?=\d)", _MINUS[language], text)
    for pattern, spoken in _FORMS[language]:
        text = pattern.sub(spoken, text)
    text = _NUMBER.sub(lambda match: _spell(match, language), text)
    text = re.sub(r"(?<!\w)-+|-+(?!\w)", " ", "".join(map(_readable, text)))   # lone dashes
    text = re.sub(r"\s+(?=[.,;:!?。，、；：！？])", "", " ".join(text.split()))
    return re.sub(r"(?<=[\u3001-\u9fff，：；！？]) (?=[\u4e00-\u9fff])", "", text)
