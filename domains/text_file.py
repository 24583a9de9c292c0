"""A user's file as text, in whichever encoding it was saved.

In this order: what a byte order mark names (UTF-8, UTF-16, UTF-32); UTF-8; UTF-16 without a mark, which is known by
its zero bytes; Windows-1252, which Excel and older programs write. Where it is not UTF-8, a FileWarning names the
encoding that was assumed. What is none of them is refused with the byte at fault, as is a file that is UTF-8 but for a
few bytes: read as Windows-1252, all of its accents would be wrong without a word.
"""

from __future__ import annotations

import codecs
import warnings
from pathlib import Path

from escalade.domains.errors import FileError

_MARKS = (
    (codecs.BOM_UTF8, "utf-8", "UTF-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le", "UTF-32"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16-le", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16-be", "UTF-16"),
)
_BINARY = (
    (b"PK\x03\x04", "a zip archive or an Excel workbook; export it as CSV"),
    (b"\xd0\xcf\x11\xe0", "an old Excel workbook; export it as CSV"),
    (b"PAR1", "a Parquet file; export it as CSV or JSON Lines"),
    (b"\x1f\x8b", "a gzip archive; unpack it"),
    (b"%PDF", "a PDF; export its table as CSV"),
)
_TEXT_CONTROLS = b"\t\n\x0b\x0c\r\x1a\x1b"
"""Control characters that text files hold."""


class FileWarning(UserWarning):
    """How a user's file was read, where it could be read in more than one way."""


def read_text(path: Path, most: int | None = None) -> str:
    """The text of a file, without its byte order mark; line ends are kept as they are. most: bytes; None: any number.

    Raises FileError naming the file, and the byte where it is no text.
    """
    try:
        if path.is_dir():
            raise FileError(f"'{path}' is a folder, not a file{_files_in(path)}")
        with path.open("rb") as file:
            content = file.read() if most is None else file.read(most + 1)
    except OSError as error:
        raise FileError(f"'{path}' cannot be read: {error.strerror or error}") from None
    except ValueError as error:  # a NUL in the name
        raise FileError(f"{str(path)!r} is not the name of a file: {error}") from None
    if most is not None and len(content) > most:
        raise FileError(f"'{path}' is larger than {most >> 20} MiB")
    text, encoding = decoded(content, path)
    if encoding != "UTF-8":
        warnings.warn(f"'{path}' is not UTF-8: it is read as {encoding}", FileWarning, stacklevel=2)
    return text


def decoded(content: bytes, path: Path) -> tuple[str, str]:
    """The text of a file's bytes and the name of their encoding. Raises FileError if they are no text."""
    for signature, what in _BINARY:
        if content.startswith(signature):
            raise FileError(f"'{path}' is not a text file but {what}")
    for mark, codec, name in _MARKS:
        if content.startswith(mark):
            try:
                return content[len(mark) :].decode(codec), name
            except UnicodeDecodeError as error:
                place = error.start + len(mark)
                raise FileError(
                    f"'{path}' begins with the byte order mark of {name}, but {_byte(content, place)} is not {name}"
                ) from None
    if (wide := _utf16_without_mark(content)) is not None:
        return content.decode(wide), "UTF-16"
    try:
        return content.decode("utf-8"), "UTF-8"
    except UnicodeDecodeError as error:
        fault = error.start
    return _windows_1252(content, path, fault), "Windows-1252"


def _utf16_without_mark(content: bytes) -> str | None:
    """The codec of UTF-16 text without a byte order mark; None for anything else.

    The first two characters of a header or of JSON are ASCII, so that every other byte is zero (RFC 4627, section 3).
    Where they are not, the side with more zero bytes is the upper one: line ends and separators are always ASCII.
    """
    if len(content) % 2 or 0 not in content:
        return None
    upper_first, upper_last = content[0::2].count(0), content[1::2].count(0)
    first, second = content[0:4:2], content[1:4:2]
    if not any(second) and _is_ascii_text(first):
        codec = "utf-16-le"
    elif not any(first) and _is_ascii_text(second):
        codec = "utf-16-be"
    elif upper_first == upper_last or (4 * (upper_first + upper_last) < len(content) and _is_utf8(content)):
        return None
    else:
        codec = "utf-16-be" if upper_first > upper_last else "utf-16-le"
    try:
        content.decode(codec)
    except UnicodeDecodeError:
        return None
    return codec


def _windows_1252(content: bytes, path: Path, fault: int) -> str:
    """The text, if it may be Windows-1252. fault: place of the first byte that is not UTF-8. Raises FileError."""
    not_utf8 = f"{_byte(content, fault)} is not UTF-8"
    control = next((place for place, byte in enumerate(content) if byte < 32 and byte not in _TEXT_CONTROLS), None)
    if control is not None:
        raise FileError(f"'{path}' is not a text file: {not_utf8}, and {_byte(content, control)} belongs to no text")
    replaced = content.decode("utf-8", "replace")
    broken = replaced.count("\ufffd")
    sound = sum(character > "\x7f" for character in replaced) - broken
    if sound >= broken:
        raise FileError(
            f"{not_utf8} in '{path}', though {sound} other characters are that ASCII lacks: the file is damaged, or "
            "was put together from files of two encodings; save it as UTF-8"
        )
    try:
        return content.decode("cp1252")
    except UnicodeDecodeError as error:
        raise FileError(
            f"'{path}' is in no encoding known here: {not_utf8}, and {_byte(content, error.start)} is not Windows-1252 "
            "either; save it as UTF-8"
        ) from None


def _byte(content: bytes, place: int) -> str:
    """A byte and where it is, for a message; places are counted from 1."""
    line = content.count(b"\n", 0, place) + 1
    return f"byte {place + 1} (0x{content[place]:02X}, line {line})"


def _is_ascii_text(content: bytes) -> bool:
    return all(32 <= byte < 127 or byte in b"\t\n\r" for byte in content)


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _files_in(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir() if path.is_file())[:5]
    return f": give one of its files, such as {', '.join(repr(name) for name in names)}" if names else ""
