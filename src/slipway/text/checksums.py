"""Check digits of cards, accounts, wallets and national numbers."""

from hashlib import sha256


def luhn(digits: str) -> bool:
    """ISO/IEC 7812-1, annex B: cards, and several national numbers."""
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit)
        if place % 2:
            value = value * 2 - 9 if value > 4 else value * 2
        total += value
    return total % 10 == 0


def weighted(digits: str, weights: tuple[int, ...]) -> int:
    """Sum of digits times weights; the shorter one counts."""
    return sum(int(digit) * weight for digit, weight in zip(digits, weights, strict=False))


def mod97(text: str) -> bool:
    """ISO 7064 MOD 97-10 as IBAN uses it (ISO 13616): the first four characters go to the end, letters become 10–35."""
    moved = text[4:] + text[:4]
    try:
        return int("".join(str(int(sign, 36)) for sign in moved)) % 97 == 1
    except ValueError:
        return False


_VERHOEFF_PRODUCT = (
    "0123456789",
    "1234067895",
    "2340178956",
    "3401289567",
    "4012395678",
    "5987604321",
    "6598710432",
    "7659821043",
    "8765932104",
    "9876543210",
)
_VERHOEFF_ORDER = (
    "0123456789",
    "1576283094",
    "5803796142",
    "8916043527",
    "9453126870",
    "4286573901",
    "2793806415",
    "7046913258",
)


def verhoeff(digits: str) -> bool:
    """J. Verhoeff, 1969: the dihedral group of order ten; Aadhaar numbers."""
    check = 0
    for place, digit in enumerate(reversed(digits)):
        check = int(_VERHOEFF_PRODUCT[check][int(_VERHOEFF_ORDER[place % 8][int(digit)])])
    return check == 0


def ean(digits: str) -> bool:
    """GS1 check digit of 13 digits: book numbers, Swiss AHV numbers."""
    return len(digits) == 13 and weighted(digits, (1, 3) * 7) % 10 == 0


_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def base58check(text: str) -> bool:
    """A Bitcoin address of 25 bytes: the last four are the start of a double SHA-256 of the others."""
    number = 0
    for sign in text:
        value = _BASE58.find(sign)
        if value < 0:
            return False
        number = number * 58 + value
    if number >= 1 << 200:
        return False
    raw = number.to_bytes(25, "big")
    return sha256(sha256(raw[:21]).digest()).digest()[:4] == raw[21:]


_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def bech32(text: str) -> bool:
    """A Bitcoin address as in BIP 173 and BIP 350."""
    text = text.lower()
    split = text.rfind("1")
    values = [ord(sign) >> 5 for sign in text[:split]] + [0] + [ord(sign) & 31 for sign in text[:split]]
    for sign in text[split + 1 :]:
        value = _BECH32.find(sign)
        if value < 0:
            return False
        values.append(value)
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            if top >> bit & 1:
                check ^= generator
    return check in (1, 0x2BC830A3)
