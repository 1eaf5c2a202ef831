//! What the spans of one resource are compared with, and the values of the dimensions of the span in hand. A dimension
//! may be an attribute of the span or of its resource; where both have it the span's counts.

use std::sync::Arc;

use super::{RESOURCE, RESOURCE_ATTRIBUTE};
use crate::model::{DimensionTexts, EncodedValue, Facts, Program, Recent};
use crate::receiver::value::{Value, key_value};
use crate::wire::{Fields, WalkError};

/// What the spans of a resource count for.
pub(super) struct Watch {
    pub(super) program: Arc<Program>,
    pub(super) recent: Recent,
    /// What was found in the span in hand.
    pub(super) facts: Facts,
    /// Values of the dimensions that the resource has, and those of the span in hand.
    of_resource: DimensionTexts,
    of_span: DimensionTexts,
}

impl Watch {
    pub(super) fn new(program: Arc<Program>) -> Self {
        let (of_resource, of_span) = Default::default();
        Self { program, recent: Recent::default(), facts: Facts::default(), of_resource, of_span }
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
        self.facts = Facts::default();
        if self.program.has_dimensions() {
            self.of_span.copy_from(&self.of_resource);
        }
    }

    /// Takes note of an attribute of the span by its number; `content` is its value and the end of `attribute`.
    #[inline(never)]
    pub(super) fn note(&mut self, number: usize, attribute: &[u8], content: &[u8]) -> Result<(), WalkError> {
        let encoded = EncodedValue::at_end(attribute, content);
        if self.program.recall(&mut self.facts, number, encoded, &self.recent) {
            return Ok(());
        }
        self.note_new(number, attribute, content)
    }

    #[inline(never)]
    fn note_new(&mut self, number: usize, attribute: &[u8], content: &[u8]) -> Result<(), WalkError> {
        let value = Value::read(content)?;
        let encoded = EncodedValue::at_end(attribute, content);
        self.program.note_encoded(&mut self.facts, number, encoded, value.attribute(), &mut self.recent);
        self.note_dimension(number, value);
        Ok(())
    }

    /// The same for a value that was read already.
    pub(super) fn note_value(&mut self, number: usize, value: Value<'_>) {
        self.program.note(&mut self.facts, number, value.attribute());
        self.note_dimension(number, value);
    }

    fn note_dimension(&mut self, number: usize, value: Value<'_>) {
        if let Some(dimension) = self.program.dimension(number) {
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
    let named = |name: &[u8]| program.dimension(program.attribute_number(name)?.0);
    if let Some((dimension, value)) = key_value(attribute, named)? {
        texts.set(dimension, value.attribute());
    }
    Ok(())
}
