"""What an operation says when it does not do what was asked."""


class Refused(Exception):
    """Nothing was done, or not all of it. The message is for people: what is wrong and what to do, one fault a line."""


class UnknownOperation(Refused):
    """There is no operation of that name, or it does not take these parameters."""
