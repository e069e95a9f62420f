"""All verbs of `sip-pbx` in one place."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from pbx_cli import doctor
from pbx_cli.up import options as parse
from pbx_cli.up.sip_ports import MorePorts, check_sip_ports
from pbx_cli.verbs import account, backup, calls, cdr, events, relay, status, token, webhook


class Interruptible(TyperGroup):
    """Ends by Ctrl-C as a program of the shell does: without a word, with 130."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]  # click's own context is its base
        """Runs the verb."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise SystemExit(130) from None


app = typer.Typer(
    name="sip-pbx",
    help="A SIP PBX: run it on this machine, and speak to a running one.",
    no_args_is_help=True,
    cls=Interruptible,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"sip-pbx {metadata.version('sip-pbx')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and end.")
    ] = False,
) -> None:
    """Options of the program itself."""


@app.command()
def up(  # the face that DESIGN.md fixes: one parameter an option
    sip: Annotated[str, typer.Option(help="Where SIP is served, UDP and TCP.")] = "0.0.0.0:5060",
    advertise: Annotated[str, typer.Option(help="Address told to phones; default: found out.")] = "",
    http: Annotated[str, typer.Option(help="Where the HTTP API is served.")] = "127.0.0.1:8080",
    relay_ports: Annotated[str, typer.Option(help="UDP ports for media, 8 a call.")] = "30000-39999",
    data: Annotated[Path, typer.Option(envvar="PBX_DATA", help="Everything kept on disk.")] = Path("var"),
    account: Annotated[
        list[str] | None,
        typer.Option(
            metavar="USER:PASSWORD",
            help="An account, instead of 1004 and 1008; may be repeated. Every user of the machine can read a command "
            "line: USER alone makes a password, --accounts-file reads it.",
        ),
    ] = None,
    accounts_file: Annotated[
        str, typer.Option(metavar="PATH", help="Accounts, a line USER:PASSWORD each; - for stdin.")
    ] = "",
    domain: Annotated[str, typer.Option(envvar="PBX_DOMAIN", help="SIP domain and digest realm.")] = "pbx.local",
    replicas: Annotated[int, typer.Option(help="Signaling processes that share the SIP address, one a core.")] = 1,
    sip_ipv6: Annotated[str, typer.Option(help="Where SIP is served over IPv6 as well, e.g. [::]:5060.")] = "",
    sip_tls: Annotated[str, typer.Option(help="Where SIP is served over TLS, e.g. 0.0.0.0:5061.")] = "",
    sip_ws: Annotated[str, typer.Option(help="Where SIP is served over WebSocket, e.g. 0.0.0.0:8088.")] = "",
    sip_wss: Annotated[str, typer.Option(help="Where SIP is served over secure WebSocket.")] = "",
    tls_cert: Annotated[Path | None, typer.Option(help="PEM: certificate; read again when it changes.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM: its key.")] = None,
    tls_self_signed: Annotated[bool, typer.Option(help="Make a certificate under --data, for a first try.")] = False,
    metrics: Annotated[
        str,
        typer.Option(
            metavar="HOST:PORT",
            help="Where metrics are served: the registrar's here, the relay's and signaling's on the next ports; "
            "default: free ports, told by --json.",
        ),
    ] = "",
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object once all is ready.")] = False,
) -> None:
    """Start everything on this machine; Ctrl-C or SIGTERM ends it in order."""
    # Imported here: it needs half a second, and the other verbs need nothing of it.
    from pbx_cli.up.accounts_file import read_accounts
    from pbx_cli.up.argv import hide_passwords
    from pbx_cli.up.command import up as run_up

    in_argv = hide_passwords()
    accounts = [parse.parse_account(text) for text in account or ()]
    if accounts_file:
        accounts += read_accounts(accounts_file)
    sip_listen = parse.parse_listen("--sip", sip)
    http_listen, ports = parse.parse_listen("--http", http), parse.parse_relay_ports(relay_ports)
    parse.check_apart(sip_listen, http_listen, ports)
    parse.check_replicas(replicas)
    more = MorePorts(
        ipv6=parse.parse_listen("--sip-ipv6", sip_ipv6) if sip_ipv6 else None,
        tls=parse.parse_listen("--sip-tls", sip_tls) if sip_tls else None,
        ws=parse.parse_listen("--sip-ws", sip_ws) if sip_ws else None,
        wss=parse.parse_listen("--sip-wss", sip_wss) if sip_wss else None,
        certificate=tls_cert,
        key=tls_key,
        self_signed=tls_self_signed,
    )
    more.check()
    check_sip_ports(more, {http_listen.port: "--http", sip_listen.port: "--sip"}, ports)
    options = parse.UpOptions(
        more=more,
        sip=sip_listen,
        advertise=advertise,
        http=http_listen,
        relay_ports=ports,
        data=data,
        accounts=tuple(accounts),
        accounts_file=accounts_file,
        in_argv=in_argv,
        domain=parse.parse_domain(domain),
        metrics=parse.parse_listen("--metrics", metrics) if metrics else None,
        replicas=replicas,
        as_json=json,
    )
    raise typer.Exit(run_up(options))


app.command()(calls.calls)
app.command()(calls.hangup)
app.command()(calls.registrations)
app.command()(relay.record)
app.add_typer(cdr.app, name="cdr")
app.add_typer(webhook.app, name="webhook")
app.add_typer(events.app, name="events")
app.add_typer(account.app, name="account")
app.add_typer(relay.app, name="relay")
app.add_typer(token.app, name="token")
app.command()(status.status)
app.command()(backup.backup)
app.command()(backup.restore)
app.command()(doctor.doctor)
