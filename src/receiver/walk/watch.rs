//! What the spans of one resource are compared with, and the values of the dimensions of the span in hand. A dimension
//! may be an attribute of the span or of its resource; where both have it the span's counts.

use std::sync::Arc;

use super::{RESOURCE, RESOURCE_ATTRIBUTE};
use crate::model::{Attribute, DimensionTexts, Program, Recent};
use crate::receiver::value::{Value, key_value};
use crate::wire::{Fields, WalkError};

/// What the spans of a resource count for.
pub(super) struct Watch {
    pub(super) program: Arc<Program>,
    pub(super) recent: Recent,
    /// Values of the dimensions that the resource has, and those of the span in hand.
    of_resource: DimensionTexts,
    of_span: DimensionTexts,
}

impl Watch {
    pub(super) fn new(program: Arc<Program>) -> Self {
        let (of_resource, of_span) = Default::default();
        Self { program, recent: Recent::default(), of_resource, of_span }
    }

    /// Reads the dimensions of a resource; `message` is the `ResourceSpans` that holds it.
    pub(super) fn begin_resource(&mut self, message: &[u8]) -> Result<(), WalkError> {
        if !self.program.has_dimensions() {
            return Ok(());
        }
        self.of_resource = of_resource(&self.program, message)?;
        Ok(())
    }

    /// The next span has the dimensions of its resource, unless it says otherwise.
    #[inline]
    pub(super) fn begin_span(&mut self) {
        if self.program.has_dimensions() {
            self.of_span.copy_from(&self.of_resource);
        }
    }

    /// Takes note of an attribute of the span, if it is a dimension.
    #[inline]
    pub(super) fn note_dimension(&mut self, watched: usize, content: &[u8]) -> Result<(), WalkError> {
        if let Some(dimension) = self.program.dimension(watched) {
            self.of_span.set(dimension, Value::read(content)?.attribute());
        }
        Ok(())
    }

    /// The same for a value that was read already.
    pub(super) fn note_dimension_value(&mut self, watched: usize, value: Value<'_>) {
        if let Some(dimension) = self.program.dimension(watched) {
            self.of_span.set(dimension, value.attribute());
        }
    }

    /// The dimensions of the span in hand; `None` where its service has none.
    pub(super) fn dimensions(&self) -> Option<&DimensionTexts> {
        self.program.has_dimensions().then_some(&self.of_span)
    }
}

/// The dimensions that a resource has; `message` is the `ResourceSpans` or `ResourceMetrics` that holds it.
pub(super) fn of_resource(program: &Program, message: &[u8]) -> Result<DimensionTexts, WalkError> {
    let mut texts = DimensionTexts::default();
    let mut fields = Fields::new(message);
    while let Some(key) = fields.next_key()? {
        match key {
            RESOURCE => read_resource(program, fields.bytes()?, &mut texts)?,
            _ => fields.skip(key)?,
        }
    }
    Ok(texts)
}

fn read_resource(program: &Program, resource: &[u8], texts: &mut DimensionTexts) -> Result<(), WalkError> {
    let mut fields = Fields::new(resource);
    while let Some(key) = fields.next_key()? {
        match key {
            RESOURCE_ATTRIBUTE => note_attribute(program, fields.bytes()?, texts)?,
            _ => fields.skip(key)?,
        }
    }
    Ok(())
}

/// Takes note of an attribute, if it is a dimension.
pub(super) fn note_attribute(
    program: &Program,
    attribute: &[u8],
    texts: &mut DimensionTexts,
) -> Result<(), WalkError> {
    let named = |name: &[u8]| program.dimension(program.watched(Attribute::named(name), name)?);
    if let Some((dimension, value)) = key_value(attribute, named)? {
        texts.set(dimension, value.attribute());
    }
    Ok(())
}
