//! The attributes that are read of every request, whatever its service is judged by: under the present names of the
//! semantic conventions and the legacy ones.

macro_rules! attributes {
    ($($length:literal { $($name:literal => $slot:ident),+ $(,)? })+) => {
        /// The attributes that are read.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Attribute { $($(#[doc = concat!("`", stringify!($name), "`")] $slot),+),+ }

        impl Attribute {
            /// All of them with their names, each at the place of its number.
            pub const ALL: &[(Self, &[u8])] = &[$($((Self::$slot, $name)),+),+];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The attribute named `name`. Most names of a span are none of these, and most of those differ
            /// in length from all of these.
            #[inline]
            pub fn named(name: &[u8]) -> Option<Self> {
                match name.len() {
                    $($length => match name {
                        $($name => Some(Self::$slot),)+
                        _ => None,
                    },)+
                    _ => None,
                }
            }
        }

        #[cfg(test)]
        const LENGTHS: &[usize] = &[$($({ let _ = $name; $length }),+),+];
    };
}

attributes! {
    8 { b"url.path" => UrlPath }
    10 { b"http.route" => Route, b"rpc.method" => RpcMethod, b"error.type" => ErrorType }
    11 { b"http.method" => OldMethod, b"http.target" => OldTarget, b"rpc.service" => RpcService }
    15 { b"rpc.status_code" => RpcStatus }
    16 { b"http.status_code" => OldHttpStatus }
    19 { b"http.request.method" => Method, b"messaging.operation" => OldMessagingOperation }
    20 { b"rpc.grpc.status_code" => GrpcStatus }
    24 {
        b"rpc.response.status_code" => RpcResponseStatus,
        b"messaging.operation.name" => MessagingOperation,
        b"messaging.operation.type" => MessagingType,
    }
    25 { b"http.response.status_code" => HttpStatus, b"user_agent.synthetic.type" => Synthetic }
    26 { b"rpc.connect_rpc.error_code" => ConnectCode, b"messaging.destination.name" => Destination }
    30 { b"messaging.destination.template" => DestinationTemplate }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_under_their_length_and_number() {
        for (number, (attribute, name)) in Attribute::ALL.iter().enumerate() {
            assert_eq!(LENGTHS[number], name.len(), "{}", String::from_utf8_lossy(name));
            assert_eq!((Attribute::named(name), *attribute as usize), (Some(*attribute), number));
        }
        assert_eq!(Attribute::named(b"url.paths"), None);
    }
}
