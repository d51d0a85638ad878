"""The keys by which a user leaves a terminal without ending what runs in it: `ctrl-p,ctrl-q`. Pure."""

DEFAULT = b"\x10\x11"


def key_byte(word: str) -> int:
    """The byte of one key, `a` or `ctrl-a`; -1 when there is no such key."""
    name = word[5:] if word[:5].lower() == "ctrl-" else ""
    if len(word) == 1 and word.isascii():
        return ord(word)
    if len(name) == 1 and name.isascii() and (name.isalpha() or name in "@[\\]^_"):
        return ord(name.upper()) - 64
    return -1


class Scanner:
    """Finds the keys in what a user types; those that may be the beginning of them are held back."""

    __slots__ = ("_held", "_keys")

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = 0

    def feed(self, data: bytes) -> tuple[bytes, bool]:
        """What to pass on, and whether the user has asked to leave (the rest is dropped then)."""
        if not self._held and self._keys[:1] not in data:
            return data, False
        out = bytearray()
        for byte in data:
            if byte == self._keys[self._held]:
                self._held += 1
                if self._held == len(self._keys):
                    self._held = 0
                    return bytes(out), True
                continue
            out += self._keys[:self._held]
            self._held = 0
            if byte == self._keys[0]:
                self._held = 1
            else:
                out.append(byte)
        return bytes(out), False
