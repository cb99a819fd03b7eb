// Sends a message by nodemailer. What comes on standard input stands in README.md.
"use strict";

const fs = require("fs");
const nodemailer = require(process.argv[2]);

const input = fs.readFileSync(0, "utf8");
const end = input.indexOf("\n\n");
const work = Object.fromEntries(input.slice(0, end).split("\n").map((line) => {
    const colon = line.indexOf(": ");
    return [line.slice(0, colon), line.slice(colon + 2)];
}));

const options = {
    host: work.host,
    port: Number(work.port),
    name: "nodemailer.test",
    secure: work.security === "tls",
    requireTLS: work.security === "starttls",
    ignoreTLS: work.security === "none",
};
if (work.ca_file) {
    options.tls = { ca: fs.readFileSync(work.ca_file) };
}
if (work.username) {
    options.authMethod = work.mechanism || undefined;
    options.auth = { user: work.username, pass: work.password };
}
const message = {
    from: work.sender,
    to: work.recipients.split(","),
    subject: work.subject,
    text: input.slice(end + 2),
    attachments: work.attachment ? [{ path: work.attachment }] : [],
};

nodemailer.createTransport(options).sendMail(message).then(
    (sent) => console.log(sent.response),
    (error) => {
        console.error(error.message);
        process.exitCode = 1;
    },
);
