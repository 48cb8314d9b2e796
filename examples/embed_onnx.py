"""Labels with onnxruntime and numpy alone: python embed_onnx.py net.onnx photo.npy labels.npy

net.onnx comes from: python src/export.py checkpoint=camvid format=onnx output=net.onnx
photo.npy holds RGB, uint8 [H, W, 3]: np.save("photo.npy", PIL.Image.open("photo.jpg").convert("RGB")) writes it.
"""

import ast
import sys

import numpy as np
import onnxruntime

model, source, target = sys.argv[1:4]
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
names = [entry["name"] for entry in ast.literal_eval(session.get_modelmeta().custom_metadata_map["classes"])]
image = np.load(source)
(labels,) = session.run(["labels"], {"images": np.ascontiguousarray(image.transpose(2, 0, 1)[None])})
np.save(target, labels[0])  # uint8 [H, W]
print("found:", ", ".join(names[label] for label in np.unique(labels)))
