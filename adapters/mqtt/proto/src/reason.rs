//! Reason codes of MQTT 5, and what of them earlier versions can say.

use crate::frame::PacketType;

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal in [$($packet:ident),+];)+) => {
        /// A reason code. What versions before 5 say is said by the nearest of these.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name = $code,)+
        }

        impl Reason {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// The reason of this code, where `packet` may bear it.
            //= MQTT5 3.2.2-8, 3.4.2-1, 3.5.2-1, 3.6.2-1, 3.7.2-1, 3.9.3-2, 3.11.3-2, 3.14.2-1, 3.15.2-1
            #[must_use]
            pub fn of(packet: PacketType, code: u8) -> Option<Self> {
                let reason = match code {
                    $($code => Self::$name,)+
                    _ => return None,
                };
                reason.fits(packet).then_some(reason)
            }

            /// Whether a packet of this type may bear it.
            #[must_use]
            pub const fn fits(self, packet: PacketType) -> bool {
                match self {
                    $(Self::$name => matches!(packet, $(PacketType::$packet)|+),)+
                }
            }
        }
    };
}

reasons! {
    /// It worked. For a subscription: QoS 0 is granted. For DISCONNECT: without the will.
    Success = 0x00 in [ConnAck, PubAck, PubRec, PubRel, PubComp, SubAck, UnsubAck, Disconnect, Auth];
    /// QoS 1 is granted.
    GrantedQoS1 = 0x01 in [SubAck];
    /// QoS 2 is granted.
    GrantedQoS2 = 0x02 in [SubAck];
    /// The client ends, and its will is to be published.
    DisconnectWithWill = 0x04 in [Disconnect];
    /// It was taken, and nobody is subscribed.
    NoMatchingSubscribers = 0x10 in [PubAck, PubRec];
    /// There was no such subscription.
    NoSubscriptionExisted = 0x11 in [UnsubAck];
    /// The authentication goes on.
    ContinueAuthentication = 0x18 in [Auth];
    /// The authentication begins again.
    ReAuthenticate = 0x19 in [Auth];
    /// No other reason fits.
    UnspecifiedError = 0x80 in [ConnAck, PubAck, PubRec, SubAck, UnsubAck, Disconnect];
    /// The bytes make no packet.
    MalformedPacket = 0x81 in [ConnAck, Disconnect];
    /// What was said may not be said.
    ProtocolError = 0x82 in [ConnAck, Disconnect];
    /// It is legal, and not done here.
    ImplementationSpecificError = 0x83 in [ConnAck, PubAck, PubRec, SubAck, UnsubAck, Disconnect];
    /// The version is not served.
    UnsupportedProtocolVersion = 0x84 in [ConnAck];
    /// The client identifier is legal, and not taken.
    ClientIdentifierNotValid = 0x85 in [ConnAck];
    /// The name or the password is wrong.
    BadUserNameOrPassword = 0x86 in [ConnAck];
    /// The client may not do this.
    NotAuthorized = 0x87 in [ConnAck, PubAck, PubRec, SubAck, UnsubAck, Disconnect];
    /// The server cannot serve now.
    ServerUnavailable = 0x88 in [ConnAck];
    /// The server has too much to do; later it may work.
    ServerBusy = 0x89 in [ConnAck, Disconnect];
    /// The client is banned.
    Banned = 0x8A in [ConnAck];
    /// The server ends.
    ServerShuttingDown = 0x8B in [Disconnect];
    /// The authentication method is not that of CONNECT, or is not known.
    BadAuthenticationMethod = 0x8C in [ConnAck, Disconnect];
    /// Nothing came for one and a half times the keep alive.
    KeepAliveTimeout = 0x8D in [Disconnect];
    /// Another connection has taken the session over.
    SessionTakenOver = 0x8E in [Disconnect];
    /// The filter is legal, and not served.
    TopicFilterInvalid = 0x8F in [SubAck, UnsubAck, Disconnect];
    /// The topic name is legal, and not served.
    TopicNameInvalid = 0x90 in [ConnAck, PubAck, PubRec, Disconnect];
    /// The packet identifier is in use.
    PacketIdentifierInUse = 0x91 in [PubAck, PubRec, SubAck, UnsubAck];
    /// The packet identifier is not known.
    PacketIdentifierNotFound = 0x92 in [PubRel, PubComp];
    /// More is in flight than the receiver takes.
    ReceiveMaximumExceeded = 0x93 in [Disconnect];
    /// The topic alias is 0, or beyond the maximum.
    TopicAliasInvalid = 0x94 in [Disconnect];
    /// The packet has more bytes than are taken.
    PacketTooLarge = 0x95 in [ConnAck, Disconnect];
    /// Messages come too fast.
    MessageRateTooHigh = 0x96 in [Disconnect];
    /// A quota is used up.
    QuotaExceeded = 0x97 in [ConnAck, PubAck, PubRec, SubAck, Disconnect];
    /// Somebody ended the connection on purpose.
    AdministrativeAction = 0x98 in [Disconnect];
    /// The payload is not what its format indicator says.
    PayloadFormatInvalid = 0x99 in [ConnAck, PubAck, PubRec, Disconnect];
    /// Retained messages are not served.
    RetainNotSupported = 0x9A in [ConnAck, Disconnect];
    /// The QoS is not served.
    QoSNotSupported = 0x9B in [ConnAck, Disconnect];
    /// Another server should be used for now.
    UseAnotherServer = 0x9C in [ConnAck, Disconnect];
    /// Another server should be used from now on.
    ServerMoved = 0x9D in [ConnAck, Disconnect];
    /// Shared subscriptions are not served.
    SharedSubscriptionsNotSupported = 0x9E in [SubAck, Disconnect];
    /// Connections come too fast.
    ConnectionRateExceeded = 0x9F in [ConnAck, Disconnect];
    /// The connection has lasted as long as it may.
    MaximumConnectTime = 0xA0 in [Disconnect];
    /// Subscription identifiers are not served.
    SubscriptionIdentifiersNotSupported = 0xA1 in [SubAck, Disconnect];
    /// Wildcards in subscriptions are not served.
    WildcardSubscriptionsNotSupported = 0xA2 in [SubAck, Disconnect];
}

impl Reason {
    /// The code.
    #[must_use]
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Whether it says that something failed.
    #[must_use]
    pub const fn is_error(self) -> bool {
        self.code() >= 0x80
    }

    /// What a CONNACK of 3.1.1 says for it; the nearest, where it has none.
    #[must_use]
    pub const fn connect_return_code(self) -> u8 {
        match self.code() {
            0x00 => 0,
            0x84 => 1,
            0x85 => 2,
            0x86 | 0x8C => 4,
            0x87 | 0x8A => 5,
            _ => 3,
        }
    }

    /// What a CONNACK of 3.1.1 said.
    #[must_use]
    pub const fn of_connect_return_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Success,
            1 => Self::UnsupportedProtocolVersion,
            2 => Self::ClientIdentifierNotValid,
            3 => Self::ServerUnavailable,
            4 => Self::BadUserNameOrPassword,
            5 => Self::NotAuthorized,
            _ => return None,
        })
    }
}
