import subprocess
import sys

import pytest

from tfmeta.serving import wire


def test_field_numbers_and_types_are_those_of_tensorflow_serving():
    from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2
    from tensorflow_serving.apis import get_model_status_pb2, model_pb2, predict_pb2

    pairs = [(wire.TensorProto, tensor_pb2.TensorProto), (wire.ModelSpec, model_pb2.ModelSpec),
             (wire.PredictRequest, predict_pb2.PredictRequest), (wire.PredictResponse, predict_pb2.PredictResponse),
             (wire.GetModelStatusRequest, get_model_status_pb2.GetModelStatusRequest),
             (wire.GetModelStatusResponse, get_model_status_pb2.GetModelStatusResponse)]
    pairs = [(ours.DESCRIPTOR, theirs.DESCRIPTOR) for ours, theirs in pairs]
    shape = wire.TensorProto.DESCRIPTOR.fields_by_name["tensor_shape"].message_type
    pairs.append((shape, tensor_shape_pb2.TensorShapeProto.DESCRIPTOR))
    pairs.append((shape.fields_by_name["dim"].message_type, tensor_shape_pb2.TensorShapeProto.Dim.DESCRIPTOR))
    for ours, theirs in pairs:
        assert ours.full_name.startswith("tfmeta.wire.")
        for field in ours.fields:
            other = theirs.fields_by_name[field.name]
            assert field.number == other.number, field.full_name
            assert field.is_repeated == other.is_repeated, field.full_name
            # An enum is an int32 on the wire.
            kind = field.TYPE_INT32 if other.type == other.TYPE_ENUM else other.type
            assert field.type == kind, field.full_name


@pytest.mark.parametrize("module", ["tfmeta.serving.client", "tfmeta.serving.command", "export.commands.export",
                                    "export.commands.verify"])
def test_import_needs_no_tensorflow(module):
    code = f"import sys, {module}; sys.exit('tensorflow' in sys.modules or 'keras' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
