//! The schema text: every wire struct with its fields in order. Its hash is compared in CI, so that a reordered,
//! renamed or retyped field cannot slip in: field order *is* the wire format.

use alloc::string::String;

/// A wire struct: derives the codec and keeps its schema line.
macro_rules! wire_type {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$fmeta:meta])* pub $field:ident : $ty:ty),* $(,)? }) => {
        $(#[$meta])*
        #[derive(serde::Serialize, serde::Deserialize)]
        pub struct $name { $($(#[$fmeta])* pub $field: $ty),* }

        impl $name {
            /// Name and fields in wire order.
            pub(crate) const SCHEMA: &'static str =
                concat!(stringify!($name), "{", $(stringify!($field), ":", stringify!($ty), ","),* , "}");
        }
    };
}
pub(crate) use wire_type;

/// Every wire struct, one line each, white space removed. `protocol/vectors/schema.txt` holds the frozen copy.
pub fn schema_text() -> String {
    let mut text = String::new();
    let types = [super::PriceSheet::SCHEMA, super::Receipt::SCHEMA];
    for line in types.iter().chain(super::message::SCHEMAS) {
        text.extend(line.chars().filter(|c| !c.is_whitespace()));
        text.push('\n');
    }
    text
}
