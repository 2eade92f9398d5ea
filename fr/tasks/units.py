"""Units of measure behind a number: one name for each, whatever it is written as."""

import re

_NAMES = {
    "mm": "millimeter millimeters millimetre millimetres",
    "cm": "centimeter centimeters centimetre centimetres",
    "m": "meter meters metre metres",
    "km": "kilometer kilometers kilometre kilometres",
    "in": "inch inches",
    "ft": "foot feet",
    "yd": "yard yards",
    "mi": "mile miles",
    "mg": "milligram milligrams",
    "g": "gram grams",
    "kg": "kilogram kilograms kgs",
    "lb": "pound pounds lbs",
    "oz": "ounce ounces",
    "ms": "millisecond milliseconds",
    "s": "second seconds sec secs",
    "min": "minute minutes mins",
    "h": "hour hours hr hrs",
    "day": "days",
    "week": "weeks",
    "month": "months",
    "year": "years yr yrs",
    "ml": "milliliter milliliters mL",
    "L": "liter liters litre litres l",
    "deg": "degree degrees",
    "rad": "radian radians",
    "K": "kelvin",
    "J": "joule joules",
    "kJ": "kilojoule kilojoules",
    "N": "newton newtons",
    "W": "watt watts",
    "V": "volt volts",
    "Hz": "hertz",
    "mph": "",
    "$": "dollar dollars usd USD bucks",
    "£": "",
    "€": "euro euros eur EUR",
    "c": "cent cents",
    "unit": "units",
}
_CANONICAL = {
    word: name for name, words in _NAMES.items() for word in (name, *words.split())
}
_WORD = "|".join(
    sorted(
        (re.escape(word) for word in _CANONICAL if word.isalpha()),
        key=len,
        reverse=True,
    )
)
_POWER = r"(?:\s?\^\s?\{?[23]\}?)?"
_ONE = rf"(?:(?:square|sq\.?|cubic|cu\.?)\s)?(?:{_WORD})\.?(?:\s(?:squared|cubed))?{_POWER}"
_UNIT = re.compile(rf"(?P<unit>{_ONE}(?:\s?(?:/|per)\s?{_ONE}|\sper\s\w+)?)\s?$")
# A lone letter close to a number is a factor, not a unit.
_PLAIN_HEAD = re.compile(
    r"[-+]?[\d.,/\s{}()^*]*(?:\\(?:frac|sqrt|pi)[\d.,/\s{}()^*\\a-z]*)*$"
)


def unit_of(text: str) -> tuple[str, str]:
    """(what stands before the unit, the unit's name), or (text, "") without one."""
    match = _UNIT.search(text[-60:])
    if not match:
        return text, ""
    begin = len(text) - len(text[-60:]) + match.start()
    head = text[:begin]
    if not re.search(r"[\d)}i]\s?$", head) or not _PLAIN_HEAD.fullmatch(head):
        return text, ""
    close = not head.endswith(" ")
    if close and len(match["unit"]) == 1:
        return text, ""
    return head.strip(), _name(match["unit"])


def _name(text: str) -> str:
    text = re.sub(r"\b(?:square|sq\.?) (\S+)", r"\1^2", text)
    text = re.sub(r"\b(?:cubic|cu\.?) (\S+)", r"\1^3", text)
    text = text.replace(" squared", "^2").replace(" cubed", "^3").replace(" per ", "/")
    text = re.sub(r"[\s{}.]", "", text)
    return re.sub(
        r"[A-Za-z]+", lambda m: _CANONICAL.get(m[0], m[0].removesuffix("s")), text
    )
