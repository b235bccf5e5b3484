//! Judge models that their vendor has switched off, or has said when it will.

use crate::params::judge::Endpoint;

/// Models of OpenAI that the public annotators and leaderboards were made with.
const RETIRED: [&str; 14] = [
    "gpt-4-1106-preview",
    "gpt-4-0125-preview",
    "gpt-4-turbo-preview",
    "gpt-4-vision-preview",
    "gpt-4-0314",
    "gpt-4-0613",
    "gpt-4-32k",
    "gpt-4-32k-0314",
    "gpt-3.5-turbo-0301",
    "gpt-3.5-turbo-0613",
    "gpt-3.5-turbo-16k",
    "gpt-3.5-turbo-16k-0613",
    "text-davinci-003",
    "gpt-4.5-preview",
];

/// Whether the endpoint is the vendor's own and its model is gone there, or about to be. Elsewhere a name says nothing.
pub fn is_retired(endpoint: &Endpoint) -> bool {
    let is_vendors = endpoint.base_url.as_deref().is_none_or(|url| url.contains("api.openai.com"));
    is_vendors && endpoint.serve.is_none() && RETIRED.contains(&endpoint.model.as_str())
}
