//! Objects as an API server has them, which may be of a newer version of the resources than this program is.
//!
//! A file with a field that nobody knows has a typo in it. An object of an API server has not: the server refused it when
//! it was written, or knows the field from a newer CRD, which comes before the newer operator and may set it by default
//! on every object there is. So of what is stored, unknown fields are passed over.

use std::borrow::Cow;
use std::sync::OnceLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::Resource;
use kube::core::ObjectMeta;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::{Adapter, Channel, Thing, crds};

/// A resource whose schema is known here.
pub trait Known: Resource<DynamicType = ()> + DeserializeOwned {
    /// Its schema, fields included.
    fn schema() -> &'static JSONSchemaProps;
}

macro_rules! known {
    ($kind:ident) => {
        impl Known for $kind {
            fn schema() -> &'static JSONSchemaProps {
                static SCHEMA: OnceLock<JSONSchemaProps> = OnceLock::new();
                SCHEMA.get_or_init(|| schema_of(crds::crd::<Self>()))
            }
        }

        impl From<Stored<Self>> for $kind {
            fn from(Stored(object): Stored<Self>) -> Self {
                object
            }
        }
    };
}

known!(Thing);
known!(Channel);
known!(Adapter);

fn schema_of(crd: CustomResourceDefinition) -> JSONSchemaProps {
    let version = crd.spec.versions.into_iter().next();
    version.and_then(|version| version.schema?.open_api_v3_schema).unwrap_or_default()
}

/// An object that is read from an API server: fields that this version does not know are passed over, and so is a status
/// that it cannot read, since the operator writes it anew.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored<K>(pub K);

impl<'de, K: Known> Deserialize<'de> for Stored<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = Value::deserialize(deserializer)?;
        for part in ["spec", "status"] {
            if let (Some(value), Some(schema)) =
                (object.get_mut(part), K::schema().properties.as_ref().and_then(|p| p.get(part)))
            {
                prune(value, schema);
            }
        }
        let status = object.as_object_mut().and_then(|object| object.remove("status"));
        if let Some(status) = status {
            let mut whole = object.clone();
            whole["status"] = status;
            if let Ok(read) = serde_json::from_value(whole) {
                return Ok(Self(read));
            }
        }
        serde_json::from_value(object).map(Self).map_err(D::Error::custom)
    }
}

/// Takes off what `schema` does not know.
fn prune(value: &mut Value, schema: &JSONSchemaProps) {
    match value {
        Value::Object(fields) => {
            if schema.x_kubernetes_preserve_unknown_fields == Some(true) {
                return;
            }
            if let Some(properties) = &schema.properties {
                fields.retain(|name, _| properties.contains_key(name));
                for (name, field) in fields.iter_mut() {
                    if let Some(schema) = properties.get(name) {
                        prune(field, schema);
                    }
                }
            } else if let Some(JSONSchemaPropsOrBool::Schema(schema)) = &schema.additional_properties {
                fields.values_mut().for_each(|field| prune(field, schema));
            }
        }
        Value::Array(items) => {
            if let Some(JSONSchemaPropsOrArray::Schema(schema)) = &schema.items {
                items.iter_mut().for_each(|item| prune(item, schema));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

impl<K: Known> Resource for Stored<K> {
    type DynamicType = ();
    type Scope = K::Scope;

    fn kind((): &()) -> Cow<'_, str> {
        K::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        K::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        K::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        K::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.meta()
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.meta_mut()
    }
}
