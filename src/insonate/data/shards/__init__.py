"""Shards: media cropped, resized and packed into tar files that are read by random access.

`write` packs a manifest · `pack` what one item becomes, in a worker process · `index` where in a tar each
member lies · `read` an item of a shard as a medium · `private` what a run without identity keeps apart.

A folder of shards holds `manifest.parquet` and, for each number, `shard-00000.tar` (a plain WebDataset tar)
with `shard-00000.index`. A row of its manifest names the tar in `path` and the item in `member`; masks and
other files of the row lie beside it, each under the name of its column. Imports no torch.
"""

from insonate.data.shards.pack import PackOptions
from insonate.data.shards.private import Deidentify
from insonate.data.shards.read import ShardItem, open_row
from insonate.data.shards.write import ShardResult, shard

__all__ = ["Deidentify", "PackOptions", "ShardItem", "ShardResult", "open_row", "shard"]
