import numpy as np

from autodisp.datasets.shapes3d_textures import draw_pattern_bank, make_texture


def test_patterns_are_stretched_and_reproducible() -> None:
    one, two = (draw_pattern_bank(np.random.default_rng(0), side=64, copies=1) for _ in range(2))
    assert one.dtype == np.uint8
    assert one.shape[1:] == (64, 64)
    np.testing.assert_array_equal(one, two)
    spans = one.reshape(len(one), -1).max(axis=1).astype(int) - one.reshape(len(one), -1).min(axis=1)
    assert (spans > 100).all()
    assert len({pattern.tobytes() for pattern in one}) == len(one)


def test_textures_keep_to_the_range_of_colours_and_the_wanted_size() -> None:
    rng = np.random.default_rng(1)
    bank = draw_pattern_bank(rng, side=64, copies=1)
    for extent, side in ((1, 8), (40, 40), (64, 64), (1000, 64)):
        for _ in range(20):
            texture = make_texture(rng, bank, extent=extent, plain=False)
            assert texture.shape == (side, side, 3)
            assert texture.dtype == np.float32
            assert texture.min() >= 0
            assert texture.max() <= 255


def test_a_plain_texture_has_shading_and_nothing_else() -> None:
    rng = np.random.default_rng(2)
    bank = draw_pattern_bank(rng, side=64, copies=1)

    def roughness(*, plain: bool) -> list[float]:
        """Second differences vanish on a ramp."""
        textures = [make_texture(rng, bank, extent=64, plain=plain) for _ in range(60)]
        return [float(np.abs(np.diff(texture, 2, axis=1)).mean()) for texture in textures]

    assert np.median(roughness(plain=True)) < 0.25 * np.median(roughness(plain=False))
