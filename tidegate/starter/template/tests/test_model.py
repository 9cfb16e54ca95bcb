"""The trained model, asked as its clients ask it: by the real server."""


def test_the_tops_of_both_moons_are_told_apart(serve_model, model_dir):
    answer = serve_model(model_dir).invoke([[0.0, 1.0], [1.0, -0.5]])
    assert [each["label"] for each in answer.json()] == ["upper", "lower"]


def test_three_numbers_are_refused_with_a_reason(serve_model, model_dir):
    answer = serve_model(model_dir).invoke([[0.0, 1.0, 2.0]])
    assert answer.status == 400
    assert "points of two numbers each" in answer.json()["error"]["message"]
