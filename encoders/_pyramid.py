"""The stages of a convolutional or hierarchical network as four maps of one grid, for `Encoder.encode_levels`."""


def one_grid(maps: list) -> list:
    """Four maps, fine to coarse, on the grid of the third: finer ones averaged, coarser ones repeated.

    The decoder's pyramid (4, 2, 1 and 1/2 times the grid) then has the strides of the network itself.
    """
    from torch.nn.functional import adaptive_avg_pool2d, interpolate

    grid = maps[2].shape[-2:]
    fit = {True: lambda part: interpolate(part, grid, mode="nearest"), False: lambda part: adaptive_avg_pool2d(part, grid)}
    return [part if part.shape[-2:] == grid else fit[part.shape[-1] < grid[-1]](part) for part in maps]
