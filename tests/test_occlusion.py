import torch

from autodisp.datasets.occlusion import split_occlusion


def test_split_against_a_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    disparity = (12 * torch.rand(1, 6, 9, generator=generator)).round(decimals=0)
    hidden = torch.rand(1, 6, 9, generator=generator) < 0.5
    occluded, out_of_frame = split_occlusion(hidden, disparity)
    for y in range(6):
        for x in range(9):
            outside = x - float(disparity[0, y, x]) < 0
            assert bool(out_of_frame[0, y, x]) == (bool(hidden[0, y, x]) and outside)
            assert bool(occluded[0, y, x]) == (bool(hidden[0, y, x]) and not outside)
    assert occluded.any()
    assert out_of_frame.any()


def test_the_first_column_of_the_right_view_is_inside() -> None:
    disparity = torch.tensor([[[0.0, 1.0, 2.0, 3.5]]])
    occluded, out_of_frame = split_occlusion(torch.ones(1, 1, 4, dtype=torch.bool), disparity)
    assert occluded.tolist() == [[[True, True, True, False]]]
    assert out_of_frame.tolist() == [[[False, False, False, True]]]
