"""Write small OME-Zarr images with zarr itself, NGFF 0.4 (Zarr 2) and 0.5 (Zarr 3)."""

from __future__ import annotations

import numpy as np
import zarr


def arranged(image, axes):
    """An RGB image in the order of the axes: one time, one plane."""
    order = [axis for axis in axes if axis in "yxc"]
    array = image.transpose(["yxc".index(axis) for axis in order])
    for k, axis in enumerate(axes):
        if axis in "tz":
            array = np.expand_dims(array, k)
    return array


def write_ngff(
    root, levels, *, version="0.4", axes="tczyx", chunk=128, mpp=(0.25, 0.5), unit="micrometer", at=None, attributes=None,
    compressors="auto", shards=None, separator="/", dtype="uint8", outer=None,
):  # fmt: skip
    """Write RGB ``levels``; ``at`` is a group inside of root (bioformats2raw writes "0")."""
    zarr_format = 2 if version == "0.4" else 3
    top = zarr.open_group(str(root), mode="a", zarr_format=zarr_format)
    group = top if at is None else top.create_group(at)
    datasets = []
    for k, image in enumerate(levels):
        data = arranged(np.asarray(image), axes).astype(dtype)
        sides = {"t": 1, "z": 1, "c": 3, "y": chunk, "x": chunk}
        chunks = tuple(min(sides[axis], size) for axis, size in zip(axes, data.shape, strict=True))
        extra = {}
        if shards:
            extra["shards"] = tuple(
                c * shards if axis in "yx" else c for axis, c in zip(axes, chunks, strict=True)
            )
        if zarr_format == 2:
            extra["chunk_key_encoding"] = {"name": "v2", "separator": separator}
        array = group.create_array(
            f"s{k}",
            shape=data.shape,
            chunks=chunks,
            dtype=dtype,
            compressors=compressors,
            fill_value=0,
            **extra,
        )
        array[:] = data
        steps = {"y": mpp[0] * 2**k, "x": mpp[1] * 2**k}
        scale = [steps.get(axis, 1.0) for axis in axes]
        datasets.append({"path": f"s{k}", "coordinateTransformations": [{"type": "scale", "scale": scale}]})
    kinds = {"t": "time", "c": "channel"}
    listed = [{"name": axis, "type": kinds.get(axis, "space")} for axis in axes]
    for axis in listed:
        if axis["type"] == "space" and unit:
            axis["unit"] = unit
    scales = {"axes": listed, "datasets": datasets}
    if outer is not None:
        scales["coordinateTransformations"] = [{"type": "scale", "scale": outer}]
    found = {"multiscales": [scales], **(attributes or {})}
    if version == "0.4":
        scales["version"] = "0.4"
        group.attrs.update(found)
    else:
        group.attrs["ome"] = {"version": version, **found}
    return root
