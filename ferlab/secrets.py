"""Passwords, tokens and signatures in addresses are masked before anything is shown or written."""

import re

from ferlab import files

MASK = "***"
# user:password@, up to the last @: both may hold one, and a password unquoted also /; no port
_PASSWORD = re.compile(r"(:/+[^\s:/?#]*:)(?!\d+[/?#])\S*@")
_TOKEN = re.compile(r"(https?:/+)[^\s:/?#@]+@")  # in the user's place, as GitHub takes it
_QUERY = re.compile(
    r"([?&;#][^\s=&;]*(?:token|key|secret|sig|pass|pwd|credential|auth)[^\s=&;]*=)"
    r"[^\s&;'\"<>]+?(?=[:,.)]*(?:[\s&;'\"<>]|$))",
    re.IGNORECASE,
)


def masked(text):
    """The text (or error) as a text in which every address is without its secrets."""
    text = _PASSWORD.sub(rf"\1{MASK}@", str(text))
    return _QUERY.sub(rf"\1{MASK}", _TOKEN.sub(rf"\1{MASK}@", text))


def user_and_password(address):
    """(scheme, user, password, host and the rest) of an address; None without a password."""
    found = re.fullmatch(r"(\w+://)([^\s:/?#]+):(?!\d+[/?#])(\S+)@(\S*)", address)
    return found and found.groups()


def one_line(error, limit=120):
    """As files.one_line, without secrets: what is cut off can no longer be told to be one."""
    text = masked(error) or type(error).__name__
    kind = files.UserError if isinstance(error, files.UserError) else str
    return files.one_line(kind(text), limit)


def refused(place):
    """`place`; ValueError where it holds a secret: params.yaml goes into Git and each report."""
    if masked(place) != place:
        raise ValueError(
            "a password or token here would be committed; set dataset: fer2013 and "
            "FER2013=<that address>, or name the address without it and put it into ~/.netrc"
        )
    return place
