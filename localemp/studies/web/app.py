"""The raters' page and the owner's page, as an ASGI app.

    /                 the page; it holds nothing of the study until the browser has a token
    /r/TOKEN          a rater's link: moves the token from the address into a cookie
    /items            the study as this rater sees it, and the rater's answers
    /answers          saves answers; they are on the disk before it responds
    /sign-in          adds a rater by name, if the study allows that
    /owner, /o/TOKEN  the same for the owner, with a separate cookie: /owner/progress, /owner/votes.csv and .jsonl

The study's key is read for the owner only: for agreement, which leaves attention checks out, and unblinded votes.
"""

from collections.abc import Awaitable, Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from localemp.errors import LocalempError, OptionError
from localemp.studies.answers import AnswerStore
from localemp.studies.exporting import all_votes, as_csv, as_jsonl, lines_of
from localemp.studies.raters import Rater, RaterRole
from localemp.studies.schema import Item
from localemp.studies.study import Study
from localemp.studies.votes import Vote, check_vote
from localemp.studies.web.progress import overview
from localemp.studies.web.security import StudyGuard
from localemp.utils.batching import MicroBatcher
from localemp.web.asgi import BodyTooLargeError, read_body
from localemp.web.page_files import page_responses

LARGEST_BODY = 64 * 2**10
_OWNER_HINT = "Open the link that `localemp study serve` printed."
_YEAR = 365 * 24 * 3600
_PAGE = Path(__file__).parent / "page"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Name(_Strict):
    name: str


class _Answer(_Strict):
    item: str
    aspect: str
    reply: str = ""
    value: Annotated[StrictInt, Field(ge=-(10**6), le=10**6)] | str
    seconds: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)] | None = None


class _Sent(_Strict):
    rater: str
    answers: Annotated[list[_Answer], Field(min_length=1, max_length=100)]


Votes = list[tuple[Vote, float | None]]


class StudyApp:
    """The study's server.

    Args:
        study: The study.
        answers: The store of its answers.
        signup: Whether anyone may become a rater by giving a name.
        hosts: The names that the server answers to; None is any. Without this check, another site's page whose name
            is pointed to this machine could sign in.
        url: The public address, if another server passes requests on to this one.
    """

    def __init__(
        self, study: Study, answers: AnswerStore, signup: bool, hosts: Sequence[str] | None, url: str = ""
    ) -> None:
        self.study, self.answers, self.signup, self._https = study, answers, signup, url.startswith("https:")
        # Cookies ignore ports: two studies on one machine need two names.
        self._cookie = f"study-{study.manifest.items_sha256[:12]}"
        self._shown = lru_cache(maxsize=256)(self._show)
        # Answers that arrive during a write are written together in the next transaction.
        self._writer = MicroBatcher[Votes, None](self._write, max_wait=0)
        self._files = page_responses(_PAGE)
        app = Starlette(
            routes=[
                Route("/", self._file("rate.html")),
                Route("/owner", self._file("owner.html")),
                *(Route(f"/page/{name}", self._file(name)) for name in self._files if not name.endswith(".html")),
                Route("/r/{token}", self._link("person", "/")),
                Route("/o/{token}", self._link("owner", "/owner")),
                Route("/items", self._items),
                Route("/answers", self._take, methods=["PUT"]),
                Route("/sign-in", self._sign_in, methods=["POST"]),
                Route("/sign-out", self._sign_out, methods=["POST"]),
                Route("/owner/progress", self._progress),
                Route("/owner/votes.{form}", self._votes),
            ],
            exception_handlers={
                LocalempError: _refused,
                ValidationError: _unreadable,
                BodyTooLargeError: _unreadable,
                ClientDisconnect: _unreadable,
            },
        )
        self.app = StudyGuard(app, hosts, url)

    def warm(self, raters: Sequence[str]) -> None:
        """Prepare the items of these raters, so that the first ones do not wait."""
        for rater in raters:
            self._shown(rater)

    # Raters.

    async def _items(self, request: Request) -> Response:
        rater = self._who(request, "person")
        if rater is None:
            return JSONResponse({"signup": self.signup}, 401)
        items, _ = self._shown(rater.name)
        given = [
            [each.vote.item, each.vote.aspect, each.vote.reply, each.vote.value]
            for each in self.answers.timed_votes(rater)
        ]
        rest = JSONResponse({"rater": rater.name, "answers": given}).body
        return Response(b'{"study":' + items + b"," + bytes(rest)[1:], media_type="application/json")

    async def _take(self, request: Request) -> Response:
        rater = self._who(request, "person")
        if rater is None:
            return _problem(401, "This link is no longer valid.", "Open your newest link in this browser.")
        sent = _Sent.model_validate_json(await read_body(request, LARGEST_BODY))
        if sent.rater != rater.name:
            message = f"This browser is signed in as {rater.name} now."
            return _problem(409, message, f"Open the link of {sent.rater} again.")
        _, first = self._shown(rater.name)
        votes: Votes = [
            (
                Vote(rater.name, each.item, each.aspect, each.value, each.reply, first.get(each.item, "")),
                each.seconds,
            )
            for each in sent.answers
        ]
        for vote, _seconds in votes:
            check_vote(self.study, vote)
        await self._writer.submit(votes)
        return JSONResponse({"kept": len(votes)})

    async def _sign_in(self, request: Request) -> Response:
        if not self.signup:
            return _problem(403, "You need a personal link to take part.", "Ask the study's owner for one.")
        asked = _Name.model_validate_json(await read_body(request, LARGEST_BODY))
        token = await run_in_threadpool(self.answers.add_rater, asked.name)
        answer = JSONResponse({"link": f"/r/{token}"})
        self._set_cookie(answer, request, "person", token)
        return answer

    async def _sign_out(self, request: Request) -> Response:
        answer = JSONResponse({})
        answer.delete_cookie(self._cookie)
        return answer

    # The owner.

    async def _progress(self, request: Request) -> Response:
        if self._who(request, "owner") is None:
            return _problem(401, "This page is for the study's owner.", _OWNER_HINT)
        return JSONResponse(await run_in_threadpool(overview, self.study, self.answers))

    async def _votes(self, request: Request) -> Response:
        form, unblinded = request.path_params["form"], request.query_params.get("unblinded") == "1"
        if form not in ("csv", "jsonl"):
            return PlainTextResponse("Not Found", 404)
        if self._who(request, "owner") is None:
            return PlainTextResponse(f"This is for the study's owner. {_OWNER_HINT}", 401)

        def export() -> str:
            lines = lines_of(all_votes(self.study, self.answers), self.study, unblinded)
            return as_csv(lines, unblinded) if form == "csv" else as_jsonl(lines)

        name = f"votes{'-unblinded' if unblinded else ''}.{form}"
        return PlainTextResponse(
            await run_in_threadpool(export),
            media_type="text/csv" if form == "csv" else "application/x-ndjson",
            headers={"content-disposition": f'attachment; filename="{name}"'},
        )

    # Cookies and links.

    def _who(self, request: Request, kind: RaterRole) -> Rater | None:
        rater = self.answers.rater_of(request.cookies.get(self._name_of(kind), ""))
        return rater if rater and rater.kind == kind else None

    def _name_of(self, kind: RaterRole) -> str:
        return self._cookie if kind == "person" else f"{self._cookie}-owner"

    def _link(self, kind: RaterRole, page: str) -> Callable[[Request], Awaitable[Response]]:
        async def link(request: Request) -> Response:
            token = request.path_params["token"]
            rater = self.answers.rater_of(token)
            if rater is None or rater.kind != kind:
                return PlainTextResponse("This link is not valid, or no longer: ask the study's owner.", 404)
            answer = RedirectResponse(page, 303)
            self._set_cookie(answer, request, kind, token)
            return answer

        return link

    def _set_cookie(self, answer: Response, request: Request, kind: RaterRole, token: str) -> None:
        # Strict: no request from another site carries it, not even a link; the page then requests by itself.
        answer.set_cookie(
            self._name_of(kind),
            token,
            max_age=_YEAR,
            path="/" if kind == "person" else "/owner",
            secure=self._https or request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )

    # Contents.

    def _file(self, name: str) -> Callable[[Request], Awaitable[Response]]:
        async def file(request: Request) -> Response:
            return self._files[name]

        return file

    def _show(self, rater: str) -> tuple[bytes, dict[str, str]]:
        """Return the study in a rater's own order as JSON, and for each item the key of the reply shown first."""
        items = self.study.shown_to(rater)
        shown = self.study.manifest.model_dump(
            include={"kind", "title", "instructions", "question", "aspects", "scale", "scale_words"}
        )
        body = JSONResponse({**shown, "items": [item.model_dump() for item in items]}).body
        return bytes(body), {item.id: _first(item) for item in items}

    def _write(self, batch: Sequence[Votes]) -> list[None]:
        flat = [each for votes in batch for each in votes]
        self.answers.put_all([vote for vote, _ in flat], [seconds for _, seconds in flat])
        return [None] * len(batch)


def _first(item: Item) -> str:
    return item.replies[0].key if item.replies else ""


def _problem(status: int, message: str, hint: str = "") -> JSONResponse:
    return JSONResponse({"message": message, "hint": hint}, status)


async def _refused(request: Request, error: Exception) -> Response:
    """Answer an error: an invalid answer is the client's; one that cannot be saved is the server's, worth a retry."""
    assert isinstance(error, LocalempError)
    return _problem(422 if isinstance(error, OptionError) else 503, error.message, error.hint)


async def _unreadable(request: Request, error: Exception) -> Response:
    return _problem(422, "The server cannot read this.", "Reload the page.")
