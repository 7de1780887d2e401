"""The workspace as DVC and Git see it: experiments that are checked first, back to a commit, bits
compared."""
