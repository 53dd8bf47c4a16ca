//! One declaration of each setting; flags, keys, precedence, defaults and what a reload compares are made of it.

/// `"key" field: Type, "VALUE"[, default "text"] [[reloadable]];`, below its help. The type reads flags and file alike; the default
/// is read by it too, and shown.
macro_rules! settings {
    ($(
        $(#[doc = $help:literal])+
        $key:literal $field:ident: $type:ty, $value:literal $(, default $default:literal)? $([$reloadable:ident])?;
    )+) => {
        /// What was set, in one place: the flags, or the file.
        #[derive(Args, Clone, PartialEq, Eq, Debug, Default)]
        pub struct Settings {
            $(
                $(#[doc = $help])+
                #[arg(
                    long = $key,
                    value_name = $value,
                    help = concat!($($help),+ $(, " [default: ", $default, "]")?).trim_start()
                )]
                pub $field: Option<$type>,
            )+
        }

        /// The keys of a configuration file, in the order of the flags.
        pub const KEYS: &[&str] = &[$($key),+];

        /// Those that a reload takes over; all others take a restart.
        pub const RELOADABLE: &[&str] = &[$($({ let _ = stringify!($reloadable); $key },)?)+];

        impl Settings {
            /// Takes one key's value; the error says what was expected.
            fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
                match key {
                    $($key => self.$field = Some(read(value)?),)+
                    _ => return Err("unknown".to_owned()),
                }
                Ok(())
            }

            /// These settings, and the other's where these have none.
            pub fn or(self, other: Settings) -> Settings {
                Settings { $($field: self.$field.or(other.$field)),+ }
            }

            /// What is so where nothing is said.
            fn defaults() -> Settings {
                Settings { $($field: None $(.or(Some(read($default).expect("a default is legal"))))?),+ }
            }

            /// The keys whose values differ.
            pub fn changed_keys(&self, other: &Settings) -> Vec<&'static str> {
                let mut changed = Vec::new();
                $(if self.$field != other.$field { changed.push($key); })+
                changed
            }
        }

        fn read<T: std::str::FromStr<Err: fmt::Display>>(value: &str) -> Result<T, String> {
            value.parse().map_err(|expected| format!("{expected}, found {value:?}{}", florin_schema::misspelling(value)))
        }
    };
}
