"""Personal data in captions: e-mail addresses, telephone numbers, IP addresses, bank cards and accounts.

    mask("Call Ann: +49 30 1234567, ann@garden.test", ("email", "phone"))  ->  "Call Ann: <phone>, <email>", [phone, email]

What a checksum, a range or a table can refuse is refused: 978-3-16-148410-0 (a book), 1920x1080, 2019-04-01, v1.2.3.4 and a
card number with one wrong digit stay. Names and postal addresses are not looked for: no rule tells them from a caption.
"""

import ipaddress
import re
from collections.abc import Callable, Collection, Mapping

Finder = tuple[re.Pattern[str], Callable[[str], bool]]
"""What may be one, and whether it is."""

_EMAIL = re.compile(r"(?<![\w.+-])[A-Za-z0-9_][\w.+%-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![\w@-])")
_IP = re.compile(
    r"(?<![\w.:])(?<![vV] )(?<![vV]ersion )"
    r"(?:\d{1,3}(?:\.\d{1,3}){3}(?!\w|\.\d)|[0-9A-Fa-f:]{2,30}:[0-9A-Fa-f:]{1,30}(?![\w:]))"
)
_CARD = re.compile(r"(?<![\w.-])\d(?:[ -]?\d){13,18}(?![\w-])")
_PHONE = re.compile(
    r"(?:(?<![\w.+])(?<!\d )(?:\+|00)[1-9](?:[ ./()-]{0,2}\d){6,14}"  # international
    r"|(?<![\w.+-])(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[.-])[2-9]\d{2}[.-]\d{4}"  # North America: areas start with 2 to 9
    r"|(?<=[Tt]el|[Ff]ax)[.: ]{1,3}\d(?:[ ./()-]{0,2}\d){5,14}"  # announced
    r"|(?<=[Pp]hone)[.: ]{1,3}\d(?:[ ./()-]{0,2}\d){5,14})(?![\w-])"
)
CARD_LENGTHS: Mapping[str, tuple[int, ...]] = {
    "4": (16, 19), "51": (16,), "52": (16,), "53": (16,), "54": (16,), "55": (16,), "22": (16,), "23": (16,),
    "24": (16,), "25": (16,), "26": (16,), "27": (16,), "34": (15,), "37": (15,), "36": (14,), "38": (14,),
    "30": (14,), "35": (16,), "60": (16,), "64": (16,), "65": (16,), "62": (16, 17, 18, 19),
}  # fmt: skip
"""First digits -> number of digits: Visa, Mastercard, American Express, Diners, JCB, Discover, UnionPay."""
IBAN_LENGTHS: Mapping[str, int] = {
    "AD": 24, "AE": 23, "AL": 28, "AT": 20, "AZ": 28, "BA": 20, "BE": 16, "BG": 22, "BH": 22, "BR": 29, "BY": 28,
    "CH": 21, "CR": 22, "CY": 28, "CZ": 24, "DE": 22, "DK": 18, "DO": 28, "EE": 20, "EG": 29, "ES": 24, "FI": 18,
    "FO": 18, "FR": 27, "GB": 22, "GE": 22, "GI": 23, "GL": 18, "GR": 27, "GT": 28, "HR": 21, "HU": 28, "IE": 22,
    "IL": 23, "IQ": 23, "IS": 26, "IT": 27, "JO": 30, "KW": 30, "KZ": 20, "LB": 28, "LC": 32, "LI": 21, "LT": 20,
    "LU": 20, "LV": 21, "LY": 25, "MC": 27, "MD": 24, "ME": 22, "MK": 19, "MR": 27, "MT": 31, "MU": 30, "NL": 18,
    "NO": 15, "PK": 24, "PL": 28, "PS": 29, "PT": 25, "QA": 29, "RO": 24, "RS": 22, "SA": 24, "SC": 31, "SD": 18,
    "SE": 24, "SI": 19, "SK": 24, "SM": 27, "ST": 25, "SV": 28, "TL": 23, "TN": 24, "TR": 26, "UA": 29, "VA": 22,
    "VG": 24, "XK": 20,
}  # fmt: skip
"""Country -> length of an account number (the IBAN registry of ISO 13616)."""
_ACCOUNTS = "|".join(rf"{land}\d\d(?: ?[A-Z0-9]){{{size - 4}}}" for land, size in IBAN_LENGTHS.items())
_IBAN = re.compile(rf"(?<!\w)(?:{_ACCOUNTS})(?!\w)")


def mask(text: str, kinds: Collection[str]) -> tuple[str, list[str]]:
    """The text with what is personal replaced by its kind, and the kinds that were replaced, one entry each time."""
    found: list[str] = []
    if not any(sign in text for sign in "@0123456789:"):
        return text, found
    for kind, (pattern, is_one) in FINDERS.items():
        if kind in kinds:
            text, hits = _replace(text, kind, pattern, is_one)
            found += [kind] * hits
    return text, found


def is_card(text: str) -> bool:
    """Whether digits are a bank card's: a known beginning, its length, and Luhn's sum."""
    digits = [int(sign) for sign in text if sign.isdigit()]
    beginning = "".join(map(str, digits[:2]))
    lengths = CARD_LENGTHS.get(beginning) or CARD_LENGTHS.get(beginning[:1], ())
    doubled = sum(sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return len(digits) in lengths and len(set(digits)) > 1 and (sum(digits[::-2]) + doubled) % 10 == 0


def is_iban(text: str) -> bool:
    """Whether an account number of the right length leaves 1 modulo 97."""
    account = text.replace(" ", "")
    return int("".join(str(int(sign, 36)) for sign in account[4:] + account[:4])) % 97 == 1


def is_ip(text: str) -> bool:
    """Whether this is an IPv4 or IPv6 address; one without a digit is rather a word of some programming language."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return any(sign.isdigit() for sign in text)


def is_phone(text: str) -> bool:
    """Whether there are as many digits as a telephone number has (E.164: 15 at most); 0012345678 alone is an article's."""
    separated = not text.startswith("00") or not text.isdigit()
    return separated and 6 <= sum(sign.isdigit() for sign in text) <= 17


def _replace(text: str, kind: str, pattern: re.Pattern[str], is_one: Callable[[str], bool]) -> tuple[str, int]:
    hits = 0

    def put(match: re.Match[str]) -> str:
        nonlocal hits
        if not is_one(match[0]):
            return match[0]
        hits += 1
        return f"{match[0][: len(match[0]) - len(match[0].lstrip('.: '))]}<{kind}>"

    return pattern.sub(put, text), hits


FINDERS: Mapping[str, Finder] = {
    "iban": (_IBAN, is_iban),
    "card": (_CARD, is_card),
    "email": (_EMAIL, lambda text: True),
    "ip": (_IP, is_ip),
    "phone": (_PHONE, is_phone),
}
"""In the order in which they are asked: what carries a checksum before what does not."""
