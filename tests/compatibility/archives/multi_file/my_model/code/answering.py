import json


def answer(prediction, accept):
    from inference import LABELS  # the script, whatever else is called so

    return json.dumps([LABELS[int(i)] for i in prediction.argmax(dim=-1).flatten()])
