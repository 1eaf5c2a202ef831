//! The gRPC codec of both sides: the generator sends messages that are encoded already, the sink decodes them
//! into structs.

use std::marker::PhantomData;

use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Bytes out; in, a message that is decoded.
pub(crate) struct Decoding<T>(PhantomData<T>);

impl<T> Default for Decoding<T> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<T: Message + Default + Send + 'static> Codec for Decoding<T> {
    type Encode = Bytes;
    type Decode = T;
    type Encoder = BytesOut;
    type Decoder = Self;

    fn encoder(&mut self) -> BytesOut {
        BytesOut
    }

    fn decoder(&mut self) -> Self {
        Self::default()
    }
}

impl<T: Message + Default> Decoder for Decoding<T> {
    type Item = T;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<T>, Status> {
        T::decode(from).map(Some).map_err(|e| Status::internal(e.to_string()))
    }
}

/// Sends bytes as they are.
pub(crate) struct BytesOut;

impl Encoder for BytesOut {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.put(item);
        Ok(())
    }
}

/// Bytes out, and the answer passed over: what the generator uses.
#[derive(Default)]
pub(crate) struct Sending;

impl Codec for Sending {
    type Encode = Bytes;
    type Decode = ();
    type Encoder = BytesOut;
    type Decoder = Self;

    fn encoder(&mut self) -> BytesOut {
        BytesOut
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Decoder for Sending {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        from.advance(from.remaining());
        Ok(Some(()))
    }
}
