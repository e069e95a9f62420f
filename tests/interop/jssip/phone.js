// A JsSIP phone in Node without media: its RTCPeerConnection writes SDP by hand and sends nothing.
// Argument: {"url", "user", "password", "domain"} as JSON. Reads commands, one JSON object a line:
// {"do": "dial", "to": "1004"}, and answer, hold, resume, digit, hangup, quit. Writes events, one JSON object a line.
"use strict";

const readline = require("readline");

let port = 45000;

class PeerConnection {
  constructor() {
    this.signalingState = "stable";
    this.iceConnectionState = "new";
    this.iceGatheringState = "complete";
    this.localDescription = this.remoteDescription = null;
    this.port = port += 2;
    this.version = 1;
  }
  addEventListener() {}
  removeEventListener() {}
  sdp() {
    return [
      "v=0", `o=- 20 ${this.version++} IN IP4 127.0.0.1`, "s=-", "c=IN IP4 127.0.0.1", "t=0 0",
      `m=audio ${this.port} RTP/AVP 0 101`, "a=rtpmap:0 PCMU/8000", "a=rtpmap:101 telephone-event/8000", "a=sendrecv", "",
    ].join("\r\n");
  }
  async createOffer() { return { type: "offer", sdp: this.sdp() }; }
  async createAnswer() { return { type: "answer", sdp: this.sdp() }; }
  async setLocalDescription(description) {
    this.localDescription = description;
    this.signalingState = description.type === "offer" ? "have-local-offer" : "stable";
  }
  async setRemoteDescription(description) {
    this.remoteDescription = description;
    this.signalingState = description.type === "offer" ? "have-remote-offer" : "stable";
    tell("media", { direction: (description.sdp.match(/a=(sendrecv|sendonly|recvonly|inactive)/) || [])[1] || "sendrecv" });
  }
  getSenders() { return []; }
  getReceivers() { return []; }
  addTrack() {}
  close() { this.signalingState = "closed"; }
}

function tell(event, more) { process.stdout.write(JSON.stringify({ event, ...more }) + "\n"); }

global.window = global;
global.WebSocket = require("ws");
global.RTCPeerConnection = PeerConnection;
global.RTCSessionDescription = class { constructor(given) { Object.assign(this, given); } };

const JsSIP = require("jssip");
const given = JSON.parse(process.argv[2]);
const media = { mediaConstraints: { audio: false, video: false } };
let session = null;

const phone = new JsSIP.UA({
  sockets: [new JsSIP.WebSocketInterface(given.url)],
  uri: `sip:${given.user}@${given.domain}`,
  password: given.password,
  register_expires: 120,
  session_timers: false,
});
phone.on("registered", () => tell("registered"));
phone.on("registrationFailed", (data) => tell("registrationFailed", { cause: data.cause }));
phone.on("disconnected", () => tell("disconnected"));
phone.on("newRTCSession", (data) => {
  session = data.session;
  session.on("progress", () => tell("progress"));
  session.on("confirmed", () => tell("confirmed"));
  session.on("hold", (hold) => tell("hold", { originator: hold.originator }));
  session.on("unhold", (hold) => tell("unhold", { originator: hold.originator }));
  session.on("newDTMF", (digit) => { if (digit.originator === "remote") tell("digit", { tone: digit.dtmf.tone }); });
  session.on("ended", (end) => tell("ended", { originator: end.originator, cause: end.cause }));
  session.on("failed", (end) => tell("failed", { originator: end.originator, cause: end.cause }));
  tell("session", { originator: data.originator });
});

const COMMANDS = {
  dial: (command) => phone.call(`sip:${command.to}@${given.domain}`, media),
  answer: () => session.answer(media),
  hold: () => session.hold({}, () => tell("done")),
  resume: () => session.unhold({}, () => tell("done")),
  digit: (command) => session.sendDTMF(command.tone, { duration: 100 }),
  hangup: () => session.terminate(),
  quit: () => { phone.stop(); setTimeout(() => process.exit(0), 500); },
};
readline.createInterface({ input: process.stdin }).on("line", (line) => {
  const command = JSON.parse(line);
  COMMANDS[command.do](command);
});
phone.start();
