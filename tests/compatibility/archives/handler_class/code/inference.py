from pathlib import Path

import torch
from tidegate_handler import functions_of


class Scores(torch.nn.Linear):
    def __init__(self, model_dir):
        super().__init__(3, 2)
        self.load_state_dict(torch.load(Path(model_dir) / "model.pth", weights_only=True))

    def preprocess(self, item):
        row = torch.as_tensor(item["x"] if isinstance(item, dict) else item, dtype=torch.float32)
        if row.shape != (3,):
            raise ValueError("x must be three numbers")
        return row

    def postprocess(self, output):
        return output.tolist()


model_fn, input_fn, predict_fn, output_fn = functions_of(Scores)
