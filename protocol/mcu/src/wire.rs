//! Every message kind, both ways: encoded as the frozen bytes, and read back from them.

use crate::{Disagreement, host_file};
use turnpike_protocol::wire::golden::{Mismatch, replay_files};

/// Compares `messages.txt` and `schema.txt` with what this build produces; gives the number of frames.
pub fn replay() -> Result<Option<usize>, Disagreement> {
    let missing = Disagreement {
        what: "cannot be read from the host",
        place: 0,
    };
    let (Some(messages), Some(schema)) = (host_file::read(c"messages.txt"), host_file::read(c"schema.txt"))
    else {
        return Err(missing);
    };
    replay_files(&messages, &schema)
        .map(Some)
        .map_err(|mismatch| match mismatch {
            Mismatch::File => Disagreement {
                what: "a line is not `kind name hex`",
                place: 0,
            },
            Mismatch::Encoding(kind) => Disagreement {
                what: "this build writes other bytes for kind",
                place: kind.into(),
            },
            Mismatch::Decoding(kind) => Disagreement {
                what: "this build reads another message from kind",
                place: kind.into(),
            },
            Mismatch::Kinds => Disagreement {
                what: "file and build hold other kinds",
                place: 0,
            },
            Mismatch::Schema => Disagreement {
                what: "this build has another schema",
                place: 0,
            },
        })
}
