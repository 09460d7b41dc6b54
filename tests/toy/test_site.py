"""The toy web: pages show good images with true captions, and every kind of junk."""

import io
from collections import Counter
from urllib.parse import urlsplit

import numpy as np
import PIL.Image
import pytest

from arm.toy.config import WorldConfig
from arm.toy.site import JUNK, REPEATED, Page, build_page, build_pages, good_scene
from arm.toy.verifier import read_image

CONFIG = WorldConfig(num_pages=30, num_images=240, junk_share=1.0)


@pytest.fixture(scope="module")
def pages() -> list[Page]:
    return build_pages(range(CONFIG.num_pages), CONFIG)


def _decode(body: bytes) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    with PIL.Image.open(io.BytesIO(body)) as picture:
        return np.asarray(picture.convert("RGB"))


def _good(pages: list[Page]) -> dict[int, bytes]:
    return {
        int(urlsplit(url).path[8:13]): response.body
        for page in pages
        for url, response in page.answers.items()
        if urlsplit(url).path.startswith("/images/") and len(urlsplit(url).path) == len("/images/00000.png")
    }


def test_every_good_image_is_served_once_and_shows_what_its_caption_was_drawn_for(pages: list[Page]) -> None:
    good = _good(pages)
    assert sorted(good) == list(range(240))
    right = 0
    for index in range(0, 240, 4):
        scene, caption = good_scene(index, CONFIG)
        image = _decode(good[index])
        assert image.shape == (288, 288, 3)
        assert len(good[index]) >= 5000
        assert len(caption.split()) >= 3
        right += sorted((i.shape, i.color) for i in read_image(image)) == sorted(o.kind for o in scene.objects)
    assert right >= 59


def test_the_site_shows_training_scenes_only() -> None:
    assert {good_scene(index, CONFIG)[0].split() for index in range(240)} == {"train"}


def test_pages_name_their_images_in_five_ways(pages: list[Page]) -> None:
    html = "".join(page.html() for page in pages)
    for mark in ('<img src="', "<figcaption>", '<img data-src="', '<img srcset="', '<meta property="og:image"'):
        assert mark in html
    assert html.count(f'alt="{REPEATED}"') == 30
    assert 'src="/images/' in html
    assert 'src="http://garden.test/images/' in html


def test_every_kind_of_junk_is_there(pages: list[Page]) -> None:
    status: Counter[int] = Counter(response.status for page in pages for response in page.answers.values())
    folders = Counter(urlsplit(url).path.split("/")[1] for page in pages for url in page.answers)
    assert len(JUNK) == 10
    assert status[404] > 0
    assert status[302] == folders["old"] > 0
    assert all(folders[name] > 0 for name in ("copies", "art", "private", "moved", "broken", "icons"))
    headers = [name for page in pages for response in page.answers.values() for name, _ in response.headers]
    assert headers.count("X-Robots-Tag") == folders["art"]
    sources = [picture.src or "" for page in pages for picture in page.pictures]
    for start in ("data:", "http://10.", "file:"):
        assert any(source.startswith(start) for source in sources)
    assert any(source.endswith(".svg") for source in sources)
    asked = {f"{source}" for source in sources if "/lost/" in source}
    served = {url for page in pages for url in page.answers}
    assert asked - served
    assert asked & served


def test_copies_are_the_same_bytes_or_nearly_the_same_pixels(pages: list[Page]) -> None:
    good = _good(pages)
    exact = near = 0
    for page in pages:
        for url, response in page.answers.items():
            if "/copies/" in url:
                original = good[int(urlsplit(url).path[8:13])]
                exact += response.body == original
                difference = np.abs(_decode(response.body).astype(float) - _decode(original)).mean()
                near += 0 < difference < 8
                assert difference < 8
    assert exact > 0
    assert near > 0


def test_a_page_depends_on_the_seed_and_its_number_alone(pages: list[Page]) -> None:
    assert build_page(7, CONFIG).answers == pages[7].answers
    assert build_page(7, WorldConfig(num_pages=30, num_images=240, seed=1)).html() != pages[7].html()


def test_a_site_without_junk_or_images_is_a_site() -> None:
    page = build_page(0, WorldConfig(num_pages=1, num_images=0, junk_share=0.0))
    assert len(page.pictures) == 2
    assert page.next_page == page.url
