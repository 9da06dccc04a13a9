"""What a user can mend: every error says what, where and which value, then what to do."""


class CrosshapeError(Exception):
    """A problem the user can mend; its text names the problem and the next step (exit status 1)."""


class UsageError(CrosshapeError):
    """A command or a setting that cannot mean anything (exit status 2)."""


class UnreadableShape(CrosshapeError):
    """A file that gives no shape; `reason` says why, without the path."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
