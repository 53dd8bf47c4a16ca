//! Enums whose variants reports know by names.

/// Declares one: each variant with its name, in the order in which reports list them.
macro_rules! named {
    ($(#[$about:meta])* pub enum $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl $name {
            /// All of them, in the order in which reports list them.
            pub const ALL: [$name; [$($text),*].len()] = [$($name::$variant),*];

            /// In reports, metrics and rules.
            pub const fn name(self) -> &'static str {
                match self {
                    $($name::$variant => $text,)*
                }
            }
        }
    };
}
