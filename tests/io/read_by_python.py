"""read_by_python.py FILE: reads what write_checkpoint has written by the packages `safetensors`, `numpy` and `xxhash`."""

import struct
import sys

import numpy
import safetensors
import xxhash

PARAMETERS = {'wächter.0/"wide"': ("F32", 3, 5), "nothing": ("F32", 0, 4), "tall": ("BF16", 4, 2), "square": ("F16", 3, 3)}


def bytes_of(values, dtype):
    values = numpy.asarray(values)
    if dtype == "BF16":  # whole numbers this small have no bits below
        return (values.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    return values.astype({"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4"}[dtype]).tobytes()


def expected():
    tensors = {"extra.seed": ("I64", [2], [-1, 1234567890123456789]), "extra.one": ("I32", [], -7)}
    for name, (dtype, m, n) in PARAMETERS.items():
        i, j = numpy.indices((m, n))
        tensors[name + ".weight"] = (dtype, [m, n], 10 * i + j)
        tensors[name + ".momentum"] = ("F32", [m, n], numpy.float32(1) + i - j)
        tensors[name + ".step"] = ("F64", [1], [1.0])
    return tensors


def main(path):
    with open(path, "rb") as file:
        whole = file.read()
    found = dict(safetensors.deserialize(whole))
    tensors = expected()
    assert sorted(found) == sorted(tensors), sorted(found)
    with safetensors.safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
        assert numpy.array_equal(file.get_tensor("tall.momentum"), tensors["tall.momentum"][2])
    for name, (dtype, shape, values) in tensors.items():
        data = bytes(found[name]["data"])
        assert (found[name]["dtype"], found[name]["shape"]) == (dtype, shape), name
        assert data == bytes_of(values, dtype), name
        assert metadata["xxh3:" + name] == xxhash.xxh3_64_hexdigest(data), name
    (length,) = struct.unpack("<Q", whole[:8])
    header = whole[8 : 8 + length].replace(metadata["xxh3"].encode(), b"0" * 16)
    assert metadata["xxh3"] == xxhash.xxh3_64_hexdigest(header)
    assert metadata["text.place"] == "epoch 3\n€"
    assert (metadata["format"], metadata["format_version"], metadata["step"]) == ("normuon-checkpoint", "1", "1")
    print(f"{len(tensors)} tensors as expected by safetensors {safetensors.__version__}")


main(sys.argv[1])
