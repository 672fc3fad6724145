"""The rules by which left and right views in one folder are told apart."""

import pytest

from autodisp.prediction.naming import LAST_RESORT, RULES, Rule


def pairs_by(rule: Rule, paths: list[str]) -> set[tuple[str, str]]:
    return {
        (left, right)
        for left in paths
        for right in paths
        if rule.keys(False, left, paths) & rule.keys(True, right, paths) and left != right
    }


@pytest.mark.parametrize(
    ("left", "right", "name"),
    [
        ("left", "right", "left/right"),
        ("a_left", "a_right", "left/right"),
        ("A-LEFT", "A-RIGHT", "left/right"),
        ("left01", "right01", "left/right"),
        ("leftImg8bit", "rightImg8bit", "left/right"),
        ("imageLeft", "imageRight", "left/right"),
        ("0007.left", "0007.right", "left/right"),
        ("clean_left/a/1", "clean_right/a/1", "left/right"),
        ("left/a_left", "right/a_right", "left/right"),
        ("left/a_left", "left/a_right", "left/right"),
        ("im0", "im1", "im0/im1"),
        ("x/Im_0", "x/Im_1", "im0/im1"),
        ("view1", "view5", "view1/view5"),
        ("im2", "im6", "im2/im6"),
        ("image_2/000000_10", "image_3/000000_10", "image2/image3"),
        ("image_02/data/0", "image_03/data/0", "image02/image03"),
        ("Image0/00000", "Image1/00000", "image0/image1"),
        ("image_00/1", "image_01/1", "image00/image01"),
        ("colored_0/1", "colored_1/1", "colored0/colored1"),
        ("cam0/data/14", "cam1/data/14", "cam0/cam1"),
        ("Camera_0/rgb_1", "Camera_1/rgb_1", "camera0/camera1"),
        ("a_l", "a_r", "l/r"),
        ("a-L", "a-R", "l/r"),
        ("imgL", "imgR", "l/r"),
        ("L0001", "R0001", "l/r"),
        ("imgleft", "imgright", "left/right"),
        ("0", "1", "0/1"),
        ("img0", "img1", "0/1"),
        ("a_0", "a_1", "0/1"),
    ],
)
def test_each_scheme_is_known_to_one_rule(left: str, right: str, name: str) -> None:
    for paths in ([left, right], [right, left]):
        found = [rule for rule in (*RULES, LAST_RESORT) if (left, right) in pairs_by(rule, paths)]
        assert name in [rule.words for rule in found]
        assert all(pairs_by(rule, paths) <= {(left, right)} for rule in (*RULES, LAST_RESORT))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("a_left", "b_right"),  # another scene
        ("a_left", "a_RIGHT1"),
        ("a_left", "A_right"),
        ("im0", "im1E"),  # another exposure
        ("im0", "im01"),
        ("im1", "im2"),
        ("image_2", "image_3"),  # files, so numbers of frames
        ("frame_000", "frame_001"),
        ("frame_10", "frame_11"),
        ("girl", "girr"),
        ("world", "wored"),
        ("0/a", "1/a"),
        ("left_0", "left_1"),  # two frames of one camera
        ("left/0", "left/1"),
        ("cam1", "cam2"),
        ("cam00", "cam01"),
        ("a/left", "b/right"),
        ("a", "a"),
    ],
)
def test_what_is_no_pair(left: str, right: str) -> None:
    assert all(not pairs_by(rule, [left, right]) for rule in (*RULES, LAST_RESORT))


@pytest.mark.parametrize("rule", [LAST_RESORT, RULES[1]])
def test_a_third_number_makes_a_sequence(rule: Rule) -> None:
    stem = "im" if rule is RULES[1] else "a_"
    two = [f"x/{stem}0", f"x/{stem}1", f"y/{stem}2"]
    assert pairs_by(rule, two) == {(two[0], two[1])}
    assert not pairs_by(rule, [*two, f"x/{stem}2"])


def test_words_in_a_folder_that_both_views_share() -> None:
    paths = ["left_and_right/right_1", "left_and_right/left_1"]
    assert pairs_by(RULES[0], paths) == {("left_and_right/left_1", "left_and_right/right_1")}
