"""Finding files: nested, renamed, in archives; and what is refused."""

import io
import tarfile
import threading
import zipfile

import pytest

from radbench.datasets import files
from radbench.datasets.files import Member, Tree
from radbench.datasets.fixtures import put, tarred, zipped
from radbench.errors import DataError

BODY = {f"part/{number:03d}.png": f"picture {number}".encode() for number in range(150)}


def test_extracted_zip_and_tar_members_are_found_alike(tmp_path):
    """A listed name is found by its end, in a folder, a zip or a compressed tar, and has the same bytes."""
    put(tmp_path / "renamed" / "deep" / "a.png", b"A")
    put(tmp_path / "packed.zip", zipped({"x/b.png": b"B"}))
    put(tmp_path / "packed.tgz", tarred({"./y/c.png": b"C"}))
    images = Tree(tmp_path).lookup(1, (".png",))
    for name, body in (("a", b"A"), ("b", b"B"), ("c", b"C")):
        found = images.find(f"images/{name.upper()}.PNG")
        assert (found.read_bytes(), found.name, found.suffix) == (body, f"{name}.png", ".png")
    member = images.find("b.png")
    assert isinstance(member, Member) and member.size == 1
    assert member.relative_to(tmp_path) == "packed.zip/x/b.png" and str(member) == f"{tmp_path}/packed.zip/x/b.png"


def test_extracted_files_go_before_archives_and_archives_fill_gaps(tmp_path):
    """What was extracted is used; what is missing among it is taken from the archive that lies beside it."""
    put(tmp_path / "images.zip", zipped({"a.png": b"packed", "b.png": b"packed"}))
    put(tmp_path / "images" / "a.png", b"extracted")
    images = Tree(tmp_path).lookup(1, (".png",))
    assert images.find("a.png").read_bytes() == b"extracted" and images.find("b.png").read_bytes() == b"packed"
    assert images.find("c.png") is None and images.found_or_listed("0/c.png") == tmp_path / "0/c.png"


def test_archives_stay_closed_when_nothing_is_missing(tmp_path):
    """A broken archive beside complete extracted files does no harm; it is a named error when it is needed."""
    put(tmp_path / "images.zip", b"not a zip")
    put(tmp_path / "a.png", b"A")
    images = Tree(tmp_path).lookup(1, (".png",))
    assert images.find("a.png").read_bytes() == b"A"
    with pytest.raises(DataError, match="images.zip: archive that cannot be read"):
        images.find("b.png")


def test_a_table_is_not_sought_in_compressed_tars(tmp_path):
    """Looking for a table that is not there does not unpack the owner's image archives; asking for them does."""
    (tmp_path / "images.tar.gz").write_bytes(tarred({"t.csv": b"x"}))
    put(tmp_path / "a.zip", zipped({"u.csv": b"x"}))
    tree = Tree(tmp_path)
    assert tree.matching(r"t\.csv") == [] and "compressed" not in vars(tree)
    assert [file.name for file in tree.matching(r"u\.csv")] == ["u.csv"]
    assert [file.name for file in tree.matching(r"t\.csv", compressed=True)] == ["t.csv"]


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_threads_in_disorder_read_the_right_members(tmp_path, pack):
    """Threads that read members backwards and at once get each member's own bytes."""
    put(tmp_path / ("a.zip" if pack is zipped else "a.tgz"), pack(BODY))
    images = Tree(tmp_path).lookup(1, (".png",))
    wrong = []

    def read(numbers):
        for number in numbers:
            if images.find(f"{number:03d}.png").read_bytes() != f"picture {number}".encode():
                wrong.append(number)

    orders = [range(150), range(149, -1, -1), range(0, 150, 7)]
    threads = [threading.Thread(target=read, args=(order,)) for order in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_compressed_tar_read_in_order_is_unpacked_once(tmp_path, monkeypatch):
    """Reading a .tgz in order, a few members early or late, never goes back to its start."""
    put(tmp_path / "a.tgz", tarred(BODY))
    images = Tree(tmp_path).lookup(1, (".png",))
    images.find("000.png")
    back = []
    import gzip

    rewind = gzip._GzipReader._rewind
    monkeypatch.setattr(gzip._GzipReader, "_rewind", lambda self: back.append(1) or rewind(self))
    for start in range(0, 150, 10):
        for number in (start + 3, start, start + 1, start + 2, *range(start + 4, start + 10)):
            assert images.find(f"{number:03d}.png").read_bytes() == f"picture {number}".encode()
    assert len(back) <= 1


def escaping_tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as archive:
        entry = tarfile.TarInfo("../../outside.png")
        entry.size = 1
        archive.addfile(entry, io.BytesIO(b"x"))
    return stream.getvalue()


def encrypted_zip() -> bytes:
    body = bytearray(zipped({"a.png": b"x"}))
    body[6] |= 1  # the flag in the local header
    body[body.index(b"PK\x01\x02") + 8] |= 1  # and in the directory
    return bytes(body)


def bomb() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("a.png", "w") as member:
        for _ in range(80):
            member.write(bytes(2**20))
    return stream.getvalue()


BAD_ARCHIVES = {
    "leaves the archive": ("a.tgz", escaping_tar),
    "'../b.png' leaves": ("a.zip", lambda: zipped({"../b.png": b"x"})),
    "'/b.png' leaves": ("a.zip", lambda: zipped({"/b.png": b"x"})),
    "is encrypted": ("a.zip", encrypted_zip),
    "unpacks .* bytes to 83886080": ("a.zip", bomb),
    "cannot be read": ("a.tgz", lambda: tarred(BODY)[:300]),
}


@pytest.mark.parametrize("message", BAD_ARCHIVES)
def test_a_bad_archive_is_a_named_error(tmp_path, message):
    """An archive that leaves its folder, is a bomb, encrypted or cut off is refused by name before anything is read from it."""
    name, make = BAD_ARCHIVES[message]
    put(tmp_path / name, make())
    with pytest.raises(DataError, match=message) as caught:
        Tree(tmp_path).lookup(1, (".png",)).find("a.png")
    assert name in str(caught.value)


def test_a_member_larger_than_the_limit_is_refused(tmp_path, monkeypatch):
    """A declared size above the limit is refused, in a tar before the rest of it is unpacked."""
    monkeypatch.setattr(files, "MAX_BYTES", 10)
    put(tmp_path / "a.tgz", tarred({"a.png": bytes(11)}))
    with pytest.raises(DataError, match="unpacks to 11 bytes; expected at most 10"):
        Tree(tmp_path).lookup(1, (".png",)).find("a.png")


def test_links_in_a_tar_are_passed_over(tmp_path):
    """A link inside a tar is no file: it cannot point out of it."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        entry = tarfile.TarInfo("a.png")
        entry.type, entry.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(entry)
    put(tmp_path / "a.tar", stream.getvalue())
    assert Tree(tmp_path).lookup(1, (".png",)).find("a.png") is None


@pytest.mark.parametrize("name", ["../a.png", "/etc/passwd", "x/../../a.png", "C:\\a.png", "..\\a.png"])
def test_a_listed_name_may_not_leave_the_root(tmp_path, name):
    """A name in a table that is absolute or climbs out is a named error."""
    put(tmp_path / "a.png", b"A")
    with pytest.raises(DataError, match="leaves the folder"):
        Tree(tmp_path).lookup(1, (".png",)).find(name)


def test_link_loops_end_and_links_are_followed(tmp_path):
    """A link to a folder elsewhere is followed; one back to the root does not go round."""
    put(tmp_path / "elsewhere" / "a.png", b"A")
    root = tmp_path / "root"
    put(root / "b.png", b"B")
    (root / "data").symlink_to(tmp_path / "elsewhere")
    (root / "loop").symlink_to(root)
    (root / "self.png").symlink_to(root / "self.png")
    tree = Tree(root)
    assert sorted(tree.extracted) == ["b.png", "data/a.png", "self.png"]


def test_hidden_files_are_passed_over(tmp_path):
    """What macOS and editors leave behind is not taken for an image."""
    for name in ("._a.png", ".hidden/a.png", "__MACOSX/a.png"):
        put(tmp_path / name, b"x")
    put(tmp_path / "only" / "a.zip", zipped({"__MACOSX/a.png": b"x", "x/.hidden/a.png": b"x", "z.png": b"Z"}))
    put(tmp_path / "a.png", b"A")
    assert Tree(tmp_path).lookup(1, (".png",)).find("a.png").read_bytes() == b"A"
    packed = Tree(tmp_path / "only").lookup(1, (".png",))
    assert packed.find("a.png") is None and packed.find("z.png").read_bytes() == b"Z"


def test_one_prefers_the_nearest_and_plain_file_and_names_two(tmp_path):
    """Of a table found twice the nearer or the unpacked one counts; two different ones at one depth are an error."""
    put(tmp_path / "t.csv.gz", b"1")
    put(tmp_path / "t.csv", b"2")
    put(tmp_path / "deep" / "t.csv", b"3")
    assert Tree(tmp_path).one(r"t\.csv(\.gz)?", "t.csv").read_bytes() == b"2"
    (tmp_path / "t.csv").unlink()
    (tmp_path / "t.csv.gz").unlink()
    put(tmp_path / "other" / "T.csv", b"4")
    with pytest.raises(DataError, match="t.csv is there 2 times.*point `root` at one"):
        Tree(tmp_path).one(r"t\.csv(\.gz)?", "t.csv")


def test_what_is_missing_is_said_with_what_lies_there(tmp_path):
    """The error names the folder, what was looked for and what is there."""
    put(tmp_path / "something.txt", b"x")
    with pytest.raises(DataError, match=r"no t\.csv; got something\.txt; expected t\.csv; next: see docs/datasets\.md"):
        Tree(tmp_path).one(r"t\.csv", "t.csv")
    with pytest.raises(DataError, match="no such folder"):
        Tree(tmp_path / "none")


def test_a_reduced_copy_beside_the_release_is_not_taken_for_it(tmp_path):
    """Of files of one name that in the listed folders is found; of two equally near ones of other sizes neither, and both are named."""
    put(tmp_path / "images-224" / "a.png", b"small")
    put(tmp_path / "images_001" / "images" / "a.png", b"the whole picture")
    assert Tree(tmp_path).lookup(1, (".png",)).find("images_001/images/a.png").read_bytes() == b"the whole picture"
    with pytest.raises(
        DataError, match=r"a\.png is there 2 times, in different sizes; got \['images-224/a\.png', 'images_001/images/a\.png'\]"
    ):
        Tree(tmp_path).lookup(1, (".png",)).find("a.png")
    (tmp_path / "images-224" / "a.png").unlink()
    (tmp_path / "images-224" / "a.png").symlink_to("nowhere")
    with pytest.raises(DataError, match="is there 2 times"):
        Tree(tmp_path).lookup(1, (".png",)).find("a.png")
    (tmp_path / "images-224" / "a.png").unlink()
    put(tmp_path / "images-224" / "a.png", b"the whole picture")
    assert Tree(tmp_path).lookup(1, (".png",)).find("a.png").read_bytes() == b"the whole picture"


def test_an_archive_beside_its_extracted_folder_gives_nothing_twice(tmp_path):
    """Of an archive only the files count that do not lie extracted in a folder of the same name, wherever the two are."""
    put(tmp_path / "Owner.zip", zipped({"Owner/masks/a.png": b"packed", "Owner/masks/b.png": b"packed", "a.png": b"packed"}))
    put(tmp_path / "moved" / "masks" / "a.png", b"extracted")
    found = [(str(file.relative_to(tmp_path)), file.read_bytes()) for _, file in Tree(tmp_path).lookup(99, (".png",)).items()]
    assert sorted(found) == [("Owner.zip/Owner/masks/b.png", b"packed"), ("Owner.zip/a.png", b"packed"),
                             ("moved/masks/a.png", b"extracted")]  # fmt: skip
