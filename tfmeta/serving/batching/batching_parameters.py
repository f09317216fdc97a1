"""The parameters of request batching."""

import dataclasses
import os

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2

from tfmeta.errors import ServingError
from tfmeta.io import filesystem

_F = descriptor_pb2.FieldDescriptorProto


@dataclasses.dataclass(frozen=True)
class BatchingParameters:
    """The fields of TensorFlow Serving's `BatchingParameters` message, with its defaults.

    Attributes:
      max_batch_size: most rows of a merged batch; a request with more is refused.
      batch_timeout_micros: how long a request waits for others, at most. In the embedded server a request that finds
        nothing else running does not wait at all: nobody would come.
      max_enqueued_batches: batches that may wait in a queue; beyond, requests are refused.
      num_batch_threads: batches that run at the same time, over all queues of a model.
      allowed_batch_sizes: ascending; a batch is filled up to the next one. Empty allows every size.
      pad_variable_length_inputs: widen inputs to the widest of the batch with the tensor's own first element.
      thread_pool_name: as in the file; it has no effect here.

    Raises:
      ServingError: if a value cannot be used.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = dataclasses.field(default_factory=lambda: os.cpu_count() or 1)
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    thread_pool_name: str = ""

    def __post_init__(self):
        for name, least in (("max_batch_size", 1), ("batch_timeout_micros", 0), ("max_enqueued_batches", 0),
                            ("num_batch_threads", 1)):
            if getattr(self, name) < least:
                raise ServingError(f"Batching parameter '{name}' requires at least {least}, received "
                                   f"{getattr(self, name)}.")
        sizes = self.allowed_batch_sizes
        if sizes and (list(sizes) != sorted(set(sizes)) or sizes[0] < 1):
            raise ServingError("Batching parameter 'allowed_batch_sizes' requires ascending sizes of at least 1, "
                               f"received {list(sizes)}.")
        if sizes and sizes[-1] != self.max_batch_size:
            raise ServingError("The last entry of batching parameter 'allowed_batch_sizes' must be max_batch_size "
                               f"({self.max_batch_size}), received {sizes[-1]}.")

    def round_up(self, rows: int) -> int:
        """Returns the smallest allowed batch size of at least `rows`."""
        return next((size for size in self.allowed_batch_sizes if size >= rows), rows)

    @classmethod
    def parse(cls, text: str, *, where: str = "the text") -> "BatchingParameters":
        """Reads the text format of the message.

        Args:
          text: such as `max_batch_size { value: 32 }`.
          where: name of the text in messages.

        Raises:
          ServingError: if it is not such a text, or a value cannot be used.
        """
        try:
            message = text_format.Parse(text, _message()())
        except text_format.ParseError as error:
            raise ServingError(f"Batching parameters require TensorFlow Serving's text format; {where}: {error}"
                               ) from None
        values = {name: getattr(message, name).value for name in _WRAPPED if message.HasField(name)}
        try:
            return cls(**values, allowed_batch_sizes=tuple(message.allowed_batch_sizes),
                       pad_variable_length_inputs=message.pad_variable_length_inputs)
        except ServingError as error:
            raise ServingError(f"{where}: {error}") from None

    @classmethod
    def read(cls, path: str) -> "BatchingParameters":
        """Reads a file such as `serving_config/batching_parameters.txt`; ServingError as `parse`, DataError if none."""
        try:
            text = filesystem.read_text(path)
        except UnicodeDecodeError:
            raise ServingError(f"Batching parameters require a text file, received '{path}', which is none.") from None
        return cls.parse(text, where=f"'{path}'")


_WRAPPED = {"max_batch_size": (1, "Int64Value"), "batch_timeout_micros": (2, "Int64Value"),
            "max_enqueued_batches": (3, "Int64Value"), "num_batch_threads": (4, "Int64Value"),
            "thread_pool_name": (5, "StringValue")}
_made: list[type] = []


def _message() -> type:
    """Returns the message class, with the field numbers of session_bundle_config.proto.

    The package of TensorFlow Serving's generated classes leaves this message out; here it lives under a name of its
    own, which collides with nothing.
    """
    if not _made:
        file = descriptor_pb2.FileDescriptorProto(name="tfmeta/batching.proto", package="tfmeta.wire",
                                                  syntax="proto3", dependency=[wrappers_pb2.DESCRIPTOR.name])
        message = file.message_type.add(name="BatchingParameters")
        for name, (number, kind) in _WRAPPED.items():
            message.field.add(name=name, number=number, label=_F.LABEL_OPTIONAL, type=_F.TYPE_MESSAGE,
                              type_name=f".google.protobuf.{kind}")
        message.field.add(name="allowed_batch_sizes", number=6, label=_F.LABEL_REPEATED, type=_F.TYPE_INT64)
        message.field.add(name="pad_variable_length_inputs", number=7, label=_F.LABEL_OPTIONAL, type=_F.TYPE_BOOL)
        pool = descriptor_pool.DescriptorPool()
        pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
        pool.AddSerializedFile(file.SerializeToString())
        _made.append(message_factory.GetMessageClass(pool.FindMessageTypeByName("tfmeta.wire.BatchingParameters")))
    return _made[0]
