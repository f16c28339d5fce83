//! The pages: HTML that needs no script.

use crate::card::Problem;
use std::fmt::Write as _;

/// What the page shows.
pub(super) struct Facts {
    pub hostname: String,
    pub problems: Vec<Problem>,
    /// `REPORT.txt`.
    pub report: String,
    /// `turnpike update status`.
    pub update: String,
    /// Text of the form, without passwords.
    pub settings: String,
    /// Whole minutes until the node starts again by itself.
    pub minutes: u64,
    pub token: String,
}

/// What became of a form.
pub(super) enum Said {
    Nothing,
    /// It is not stored, because of this.
    Refused(Vec<String>),
    /// It is stored; this may be corrected.
    Stored(Vec<String>),
}

const STYLE: &str = "body{font:1em/1.5 system-ui,sans-serif;max-width:46em;margin:0 auto;padding:1em;color:#222;background:#fff}\
h1{font-size:1.4em}h2{font-size:1.1em;margin-top:2em}pre,textarea{font:.9em/1.4 monospace;background:#f4f4f4;border:1px solid #bbb;\
border-radius:4px;padding:.6em}pre{white-space:pre-wrap;overflow-wrap:anywhere}textarea{width:100%;box-sizing:border-box;height:28em}\
button{font-size:1.1em;padding:.5em 1.2em;margin:.5em 0}.bad{background:#fde8e8;border:1px solid #c33;border-radius:4px;padding:.1em 1em}\
.good{background:#e6f6e6;border:1px solid #393;border-radius:4px;padding:.1em 1em}";

/// The page itself.
pub(super) fn page(facts: &Facts, said: &Said) -> String {
    let mut body = format!("<h1>{}: setup mode</h1>\n", escaped(&facts.hostname));
    let _ = writeln!(
        body,
        "<p>This node sells nothing now. In {} min it starts again with its settings.</p>",
        facts.minutes
    );
    match said {
        Said::Nothing => {}
        Said::Refused(why) => {
            body.push_str(
                "<div class=\"bad\"><p><b>Not stored.</b> A node does not take these settings:</p>\n",
            );
            list(&mut body, why);
            body.push_str("</div>\n");
        }
        Said::Stored(odd) => {
            body.push_str("<div class=\"good\"><p><b>Stored.</b> They count from the next start on.</p>\n");
            if !odd.is_empty() {
                body.push_str("<p>A node takes them without this:</p>\n");
                list(&mut body, odd);
            }
            body.push_str("</div>\n");
        }
    }
    body.push_str(&restart(facts));
    if !facts.problems.is_empty() {
        body.push_str("<h2>Problems</h2>\n");
        let lines = facts
            .problems
            .iter()
            .map(|it| format!("{}: {}", it.code, it.text));
        list(&mut body, &lines.collect::<Vec<_>>());
    }
    let _ = write!(
        body,
        "<h2>Settings</h2>\n<form method=\"post\" action=\"/settings\">\n<p><label for=\"text\">turnpike.toml. Passwords are not shown; \
         what stands in place of one keeps it.</label></p>\n\
         <textarea id=\"text\" name=\"text\" spellcheck=\"false\" autocapitalize=\"off\" autocomplete=\"off\">\n{}</textarea>\n\
         <input type=\"hidden\" name=\"token\" value=\"{}\">\n<button>Check and store</button>\n</form>\n",
        escaped(&facts.settings),
        escaped(&facts.token)
    );
    let _ = write!(
        body,
        "<h2>Report</h2>\n<pre>{}</pre>\n<h2>Firmware</h2>\n<pre>{}</pre>\n",
        escaped(&facts.report.replace('\r', "")),
        escaped(&facts.update)
    );
    whole(&facts.hostname, &body)
}

/// The answer to the wish to start again.
pub(super) fn farewell(hostname: &str) -> String {
    let text = format!(
        "<h1>{}: starting again</h1>\n<p>Setup mode is over. The node is back in about a minute, with its settings.</p>\n",
        escaped(hostname)
    );
    whole(hostname, &text)
}

/// A page that only says something.
pub(super) fn notice(hostname: &str, text: &str) -> String {
    let text = format!("<h1>{}</h1>\n<p><a href=\"/\">Setup</a></p>\n", escaped(text));
    whole(hostname, &text)
}

fn restart(facts: &Facts) -> String {
    format!(
        "<form method=\"post\" action=\"/restart\">\n<input type=\"hidden\" name=\"token\" value=\"{}\">\n\
         <button>Restart the node</button>\n</form>\n",
        escaped(&facts.token)
    )
}

fn list(body: &mut String, lines: &[String]) {
    body.push_str("<ul>\n");
    for line in lines {
        let _ = writeln!(body, "<li>{}</li>", escaped(line));
    }
    body.push_str("</ul>\n");
}

fn whole(hostname: &str, body: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{}: setup</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n{body}</body>\n</html>\n",
        escaped(hostname)
    )
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for sign in text.chars() {
        match sign {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(sign),
            sign if sign.is_control() => out.push('\u{fffd}'),
            sign => out.push(sign),
        }
    }
    out
}
