"""Every error that easyep raises on purpose.

    EasyEPError
    ├── UnknownNameError          a name that is not in a registry, with what was probably meant
    ├── PluginError               what another package adds to easyep cannot be loaded
    ├── MissingDependencyError    an optional package is needed, and which extra brings it
    ├── ModelNotFoundError        an alias, path or repository id that leads to no checkpoint
    ├── UnsupportedModelError     a model without prunable experts, or of an unknown family
    ├── CheckpointError           files on disk that contradict themselves or each other
    │   ├── LayoutError           tensors that the architecture's rules do not explain
    │   └── VerificationError     a checkpoint just written that is not what it should be
    ├── DemosError                demonstrations that cannot be read, rendered or made
    │   └── ServerRefusedError    a server that will answer no request: key, model or address
    ├── ArtifactError             observations, scores, a selection or a recipe that cannot be read
    ├── ObservationError          the model ran, but what it did cannot be recorded exactly
    │   └── PeerError             another process of the same run has failed, is gone or hangs
    ├── NotFirstRankError         no failure: this process's share is done, rank 0 has the result
    ├── SelectionError            a budget or choice that the router could not work with
    ├── OutputError               the target exists, is not writable, or has no room
    │   └── NoRoomError           less is free than what would be written takes
    └── EvaluationError           a task or metric that cannot be evaluated, an engine that fails
        └── MemoryExhaustedError  a batch that does not fit beside the model

Each message says what is wrong, where, what would be valid and how to go on. The command line
prints it as one message and exits with 1.
"""

# More would hide what easyep says around it.
_LONGEST = 1000

# What torch and the system say where memory has run out; they say so in words only.
_NO_MEMORY = (
    "can't allocate memory",
    "cannot allocate memory",
    "can't start new thread",
    "failed to map segment",
    "bad_alloc",
    "out of memory",
)

# Characters of a message; what goes on is cut out of its middle.
LONGEST_MESSAGE = 4000


class EasyEPError(Exception):
    """The base of all errors that easyep raises on purpose; its message is `shortened`."""

    def __init__(self, message: object = "") -> None:
        super().__init__(shortened(str(message)))


class UnknownNameError(EasyEPError):
    """A name is not registered; the message lists the closest and all valid ones."""


class PluginError(EasyEPError):
    """Another package adds something to easyep that cannot be loaded."""


class MissingDependencyError(EasyEPError):
    """An optional package is not installed; the message names the extra that brings it."""


class ModelNotFoundError(EasyEPError):
    """An alias, a path or a repository id leads to no checkpoint."""


class UnsupportedModelError(EasyEPError):
    """The model has no prunable routed experts, or its family is unknown."""


class CheckpointError(EasyEPError):
    """Files of a checkpoint are malformed, or contradict each other."""


class LayoutError(CheckpointError):
    """A tensor's name or shape is not what the architecture's rules expect."""


class VerificationError(CheckpointError):
    """A checkpoint that was just written is not what it should be; it was not kept."""


class DemosError(EasyEPError):
    """Demonstrations cannot be read, rendered or made."""


class ServerRefusedError(DemosError):
    """A server will answer no request like this: the key, the model's name or the address."""


class ArtifactError(EasyEPError):
    """A saved stage (observations, scores, selection, recipe) cannot be read."""


class ObservationError(EasyEPError):
    """The model ran, but its routing cannot be recorded exactly."""


class PeerError(ObservationError):
    """Another process of the same run has failed, is gone or hangs."""


class NotFirstRankError(EasyEPError):
    """No failure: this process has done its share of a run, and only rank 0 has the result."""


class SelectionError(EasyEPError):
    """A budget or a choice of experts that the model's router could not work with."""


class OutputError(EasyEPError):
    """The target exists, is not writable, or has no room."""


class NoRoomError(OutputError):
    """Less is free on the file system than what would be written there takes."""


class EvaluationError(EasyEPError):
    """A task or metric cannot be evaluated, or an engine fails."""


class MemoryExhaustedError(EvaluationError):
    """A batch does not fit into memory beside the model."""


def shortened(told: str) -> str:
    """A message that can be printed: what would be pages is cut, half a character written out.

    Messages quote what is wrong, and a broken file can have anything in the place of a name.
    """
    if len(told) > LONGEST_MESSAGE:
        told = f"{told[: LONGEST_MESSAGE - 500]} [...] {told[-490:]}"
    return told.encode("utf-8", "backslashreplace").decode("utf-8")


def first_line(error: Exception) -> str:
    """What another library's error says first, as text that can be printed.

    It often goes on for a page, or quotes one.
    """
    told = str(error).strip().partition("\n")[0] or type(error).__name__
    told = told if len(told) <= _LONGEST else f"{told[:_LONGEST]}..."
    return told.encode("utf-8", "backslashreplace").decode("utf-8")


def tells_of_memory(message: str) -> bool:
    """Whether another library's message says that an allocation failed."""
    told = message.lower()
    return any(each in told for each in _NO_MEMORY)
