"""The toy web: HTML pages with captioned images, and the faults that real pages have.

    build_pages(range(0, 3), config)  ->  [(Page, {"http://garden.test/images/00000.png": Response, …}), …]

Good images (288×288 PNG, 8 pixels a toy pixel) stand in five ways on a page; junk stands between them:

    <img src alt>  <figure> with figcaption  <img data-src>  <img srcset>  <meta og:image>        good
    dead links, exact copies, near copies, icons, foreign text, file names as captions, noai,
    robots.txt, redirects, broken files, data: and private addresses, svg                          junk

A page and its images are a pure function of (seed, page number).
"""

import io
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from html import escape

import numpy as np
import PIL.Image

from arm.data.replay import Response
from arm.toy.config import WorldConfig
from arm.toy.language import describe, document, draw_captioned
from arm.toy.png import encode_png
from arm.toy.rendering import render
from arm.toy.scene import Scene

HOSTS = ("garden.test", "pond.test")
"""Names under .test never resolve (RFC 6761): the site is only ever a replay."""
SCALE = 8
FOREIGN = {
    "fr": ("un dessin avec un cercle et un carré dans le jardin", "une image de trois triangles rouges au soleil"),
    "de": ("ein Bild mit einem roten Kreis und einem Quadrat", "drei blaue Dreiecke auf einer hellen Wiese"),
    "es": ("una imagen de un círculo rojo junto al estanque", "dos cuadrados verdes y una cruz amarilla"),
    "ja": ("庭にある赤い丸と青い四角の絵", "池のそばの三つの緑の三角形"),
}
FILE_NAMES = ("IMG_{}.JPG", "DSC0{}.png", "image{}", "click to enlarge", "photo", "")
REPEATED = "a picture from our garden"
"""Stands on every page: what a rule about repeated captions must drop."""
ROBOTS = b"User-agent: *\nDisallow: /private/\n"
PNG_HEADERS = (("Content-Type", "image/png"),)
WAY_SHARES = {"image": 0.55, "figure": 0.2, "lazy": 0.1, "srcset": 0.1, "og": 0.05}
"""How good images stand on a page."""


@dataclass(frozen=True, slots=True)
class Picture:
    """One image of a page as HTML names it; `html` is its element, `src` None where no src attribute names it."""

    html: str
    src: str | None = None
    alt: str | None = None


@dataclass(slots=True)
class Page:
    """A page being built: what it shows, in order, and the answers that belong to it."""

    number: int
    host: str
    title: str
    text: str
    pictures: list[Picture] = field(default_factory=list)
    og_image: str | None = None
    og_alt: str = ""
    next_page: str = ""
    answers: dict[str, Response] = field(default_factory=dict)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://{self.host}/pages/{self.number:04d}.html"

    def written(self, text: str) -> str:
        """An address or element as it stands on the page: every second page leaves out its own host."""
        return text.replace(f"http://{self.host}/", "/") if self.number % 2 else text

    def html(self) -> str:
        """The page as HTML."""
        metas = f'<meta property="og:title" content="{escape(self.title)}">\n'
        if self.og_image:
            metas += f'<meta property="og:image" content="{self.og_image}">\n'
            metas += f'<meta property="og:image:alt" content="{escape(self.og_alt)}">\n'
        body = "\n".join(self.written(picture.html) for picture in self.pictures)
        return (
            f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(self.title)}</title>\n'
            f'{metas}<link rel="stylesheet" href="/style.css">\n</head>\n<body>\n<h1>{escape(self.title)}</h1>\n'
            f'<p>{escape(self.text)}</p>\n{body}\n<p><a href="{self.next_page}">next page</a></p>\n</body>\n</html>\n'
        )


def build_pages(numbers: Iterable[int], config: WorldConfig) -> list[Page]:
    """Build pages with every answer below them, the pages themselves included."""
    return [build_page(number, config) for number in numbers]


def build_page(number: int, config: WorldConfig) -> Page:
    """Build one page: its share of the good images, with junk between them."""
    rng = random.Random(f"{config.seed}/page/{number}")
    host = HOSTS[number % len(HOSTS)]
    following = (number + 1) % config.num_pages
    page = Page(
        number=number,
        host=host,
        title=f"{host.split('.')[0]} page {number}",
        text=document(draw_captioned(rng, config.scene)[0], rng),
        next_page=f"http://{HOSTS[following % len(HOSTS)]}/pages/{following:04d}.html",
    )
    _add_furniture(page)
    first, last = (config.num_images * step // config.num_pages for step in (number, number + 1))
    for index in range(first, last):
        _add_good_image(page, index, rng, config)
        while rng.random() < config.junk_share / (1 + config.junk_share):
            rng.choice(JUNK)(page, index, rng, config)
    headers = (("Content-Type", "text/html; charset=utf-8"),)
    page.answers[page.url] = Response(200, "OK", headers, page.html().encode())
    return page


def _add_furniture(page: Page) -> None:
    """What every page repeats: robots.txt, a logo, a spacer."""
    logo, spacer = f"http://{page.host}/icons/logo.png", f"http://{page.host}/icons/spacer.png"
    page.answers[f"http://{page.host}/robots.txt"] = Response(200, "OK", (("Content-Type", "text/plain"),), ROBOTS)
    page.answers[logo] = _png(np.full((4, 4, 3), (40, 120, 60), np.uint8))
    page.answers[spacer] = _png(np.full((1, 1, 3), 255, np.uint8), scale=1)
    page.pictures += [_image(logo, REPEATED), _image(spacer, "")]


def _add_good_image(page: Page, index: int, rng: random.Random, config: WorldConfig) -> None:
    scene, caption = good_scene(index, config)
    url = f"http://{page.host}/images/{index:05d}.png"
    page.answers[url] = _picture_of(scene, index, config)
    way = rng.choices(list(WAY_SHARES), weights=list(WAY_SHARES.values()))[0]
    if way == "og" and page.og_image is None:
        page.og_image, page.og_alt = url, caption
    elif way == "figure":
        longer = describe(scene, "places", rng)[0]
        element = f'<img src="{url}" alt="{escape(caption)}"><figcaption>{escape(longer)}</figcaption>'
        page.pictures.append(Picture(f"<figure>{element}</figure>", url, caption))
    elif way == "lazy":
        page.pictures.append(Picture(f'<img data-src="{url}" alt="{escape(caption)}">', None, caption))
    elif way == "srcset":
        element = f'<img srcset="/icons/spacer.png 100w, {url} 288w" alt="{escape(caption)}">'
        page.pictures.append(Picture(element, None, caption))
    else:
        page.pictures.append(_image(url, caption))


def good_scene(index: int, config: WorldConfig) -> tuple[Scene, str]:
    """The scene of a good image and its caption, never under three words."""
    rng = random.Random(f"{config.seed}/image/{index}")
    scene, caption, _ = draw_captioned(rng, config.scene)
    return scene, caption if len(caption.split()) > 2 else f"a photo of {caption}"


def _picture_of(scene: Scene, index: int, config: WorldConfig) -> Response:
    return _png(render([scene], [_noise(index, config)])[0])


def _png(image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], scale: int = SCALE) -> Response:
    return Response(200, "OK", PNG_HEADERS, encode_png(image, scale))


def _noise(index: int, config: WorldConfig) -> int:
    return (config.seed << 24) + index


def _image(url: str, alt: str) -> Picture:
    return Picture(f'<img src="{escape(url)}" alt="{escape(alt)}">', url, alt)


def _new_image(page: Page, folder: str, index: int, rng: random.Random, config: WorldConfig) -> tuple[str, str]:
    """One more image, served under `folder`, with a true caption; returns both."""
    scene, caption, _ = draw_captioned(rng, config.scene)
    url = f"http://{page.host}/{folder}/{index:05d}-{len(page.pictures):02d}.png"
    page.answers[url] = _png(render([scene], [rng.getrandbits(40)])[0])
    return url, f"a photo of {caption}" if len(caption.split()) < 3 else caption


def _dead_link(page: Page, index: int, rng: random.Random, config: WorldConfig) -> None:
    """A caption whose image is gone: half answer 404, half were never crawled."""
    url = f"http://{page.host}/lost/{index:05d}-{len(page.pictures):02d}.png"
    if rng.random() < 0.5:
        page.answers[url] = Response(404, "Not Found", (("Content-Type", "text/html"),), b"<h1>Not Found</h1>\n")
    page.pictures.append(_image(url, good_scene(index, config)[1]))


def _exact_copy(page: Page, index: int, rng: random.Random, config: WorldConfig) -> None:
    scene, caption = good_scene(index, config)
    url = f"http://{page.host}/copies/{index:05d}-{len(page.pictures):02d}.png"
    page.answers[url] = _picture_of(scene, index, config)
    page.pictures.append(_image(url, caption))


def _near_copy(page: Page, index: int, rng: random.Random, config: WorldConfig) -> None:
    """The same picture as a JPEG, a little brighter."""
    scene, caption = good_scene(index, config)
    small = render([scene], [_noise(index, config)])[0]
    brighter = np.clip(small.astype(np.int16) + rng.choice((-4, 3, 5)), 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    PIL.Image.fromarray(brighter.repeat(SCALE, 0).repeat(SCALE, 1)).save(buffer, "jpeg", quality=rng.choice((85, 92)))
    url = f"http://{page.host}/copies/{index:05d}-{len(page.pictures):02d}.jpg"
    page.answers[url] = Response(200, "OK", (("Content-Type", "image/jpeg"),), buffer.getvalue())
    page.pictures.append(_image(url, caption))


def _foreign(page: Page, index: int, rng: random.Random, config: WorldConfig) -> None:
    url, _ = _new_image(page, "images", index, rng, config)
    page.pictures.append(_image(url, rng.choice(FOREIGN[rng.choice(list(FOREIGN))])))


def _file_name(page: Page, index: int, rng: random.Random, config: WorldConfig) -> None:
    url, _ = _new_image(page, "images", index, rng, config)
    page.pictures.append(_image(url, rng.choice(FILE_NAMES).format(rng.randrange(1000, 9999))))


def _noai(page: Page, index: int, rng: random.Random, config: WorldConfig) -> None:
    """Its owner does not want it used: the header says so."""
    url, caption = _new_image(page, "art", index, rng, config)
    headers = (*PNG_HEADERS, ("X-Robots-Tag", "noai, noimageai"))
    page.answers[url] = Response(200, "OK", headers, page.answers[url].body)
    page.pictures.append(_image(url, caption))


def _disallowed(page: Page, index: int, rng: random.Random, config: WorldConfig) -> None:
    page.pictures.append(_image(*_new_image(page, "private", index, rng, config)))


def _redirect(page: Page, index: int, rng: random.Random, config: WorldConfig) -> None:
    """An address that moved: a good image behind a 302."""
    target, caption = _new_image(page, "moved", index, rng, config)
    url = target.replace("/moved/", "/old/")
    page.answers[url] = Response(302, "Found", (("Location", target),), b"")
    page.pictures.append(_image(url, caption))


def _broken(page: Page, index: int, rng: random.Random, config: WorldConfig) -> None:
    """A cut file, or a page of text where an image should be."""
    url, caption = _new_image(page, "broken", index, rng, config)
    cut = page.answers[url].body[:1500] if rng.random() < 0.5 else b"<html><body>please log in</body></html>"
    page.answers[url] = Response(200, "OK", PNG_HEADERS, cut)
    page.pictures.append(_image(url, caption))


def _odd_address(page: Page, index: int, rng: random.Random, config: WorldConfig) -> None:
    """Addresses that no crawler should fetch."""
    address = rng.choice(
        (
            "data:image/png;base64,iVBORw0KGgo=",
            f"http://10.0.0.7/images/{index}.png",
            f"/art/{index}.svg",
            "file:///etc/hostname",
        )
    )
    page.pictures.append(_image(address, good_scene(index, config)[1]))


Junk = Callable[[Page, int, random.Random, WorldConfig], None]
JUNK: tuple[Junk, ...] = (
    _dead_link, _exact_copy, _near_copy, _foreign, _file_name, _noai, _disallowed, _redirect, _broken, _odd_address,
)  # fmt: skip
