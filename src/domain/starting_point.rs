//! Transformations that people start from.
//!
//! They are texts for an endpoint's `transformation`, and nothing refers to them afterwards: a later version of
//! the program may have other ones.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::transformation::Transformation;

pub struct StartingPoint {
    pub name: &'static str,
    /// A sentence for people who choose one.
    pub description: &'static str,
    pub transformation: Transformation,
}

/// By their names.
pub static STARTING_POINTS: LazyLock<Vec<StartingPoint>> = LazyLock::new(|| {
    vec![
        StartingPoint {
            name: "cloudevents-binary",
            description: "CloudEvents 1.0, binary mode: the payload as it was published, and its context in `ce-` headers",
            transformation: Transformation {
                headers: headers(&[
                    ("ce-specversion", "1.0"),
                    ("ce-id", "{{ message.id }}"),
                    (
                        "ce-source",
                        "{{ (server.url ~ '/api/v1/app/' ~ message.application) | percent }}",
                    ),
                    ("ce-type", "{{ message.event_type | percent }}"),
                    ("ce-time", "{{ message.accepted_at }}"),
                ]),
                ..Transformation::default()
            },
        },
        StartingPoint {
            name: "cloudevents-structured",
            description: "CloudEvents 1.0, structured mode: one JSON object with the payload as its data",
            transformation: Transformation {
                body: Some(CLOUDEVENTS.to_owned()),
                content_type: Some("application/cloudevents+json; charset=UTF-8".to_owned()),
                ..Transformation::default()
            },
        },
        StartingPoint {
            name: "plain-text",
            description: "A few lines of text: the event type, the message's id and time, and the payload",
            transformation: Transformation {
                body: Some(PLAIN_TEXT.to_owned()),
                content_type: Some("text/plain; charset=utf-8".to_owned()),
                ..Transformation::default()
            },
        },
        StartingPoint {
            name: "thin",
            description: "Id, type, time, and a link from which the application's key fetches the rest",
            transformation: json(THIN),
        },
        StartingPoint {
            name: "to-discord",
            description: "To a Discord channel, through a webhook of the channel: the event type and the payload",
            transformation: json(TO_DISCORD),
        },
        StartingPoint {
            name: "to-slack",
            description: "To a Slack channel, through an incoming webhook: the event type and the payload",
            transformation: json(TO_SLACK),
        },
        StartingPoint {
            name: "to-teams",
            description: "To a channel of Microsoft Teams, through a workflow: the event type and the payload",
            transformation: json(TO_TEAMS),
        },
    ]
});

const CLOUDEVENTS: &str = r#"{
  "specversion": "1.0",
  "id": {{ message.id }},
  "source": "{{ server.url }}/api/v1/app/{{ message.application }}",
  "type": {{ message.event_type }},
  "time": {{ message.accepted_at }},
  "datacontenttype": "application/json",
  "data": {{ payload }}
}
"#;

const THIN: &str = r#"{
  "id": {{ message.id }},
  "type": {{ message.event_type }},
  "timestamp": {{ message.accepted_at }},
  "link": "{{ server.url }}/api/v1/app/{{ message.application }}/msg/{{ message.id }}"
}
"#;

const PLAIN_TEXT: &str = "{{ message.event_type }}\n{{ message.id }} of {{ message.accepted_at }}\n\n\
                          {{ payload | excerpt(10000) }}\n";

const TO_SLACK: &str = r#"{
  "text": "*{{ message.event_type | mrkdwn }}*\n```{{ payload | excerpt(2500) | mrkdwn }}```",
  "unfurl_links": false,
  "unfurl_media": false
}
"#;

const TO_TEAMS: &str = r#"{
  "type": "message",
  "attachments": [{
    "contentType": "application/vnd.microsoft.card.adaptive",
    "contentUrl": null,
    "content": {
      "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
      "type": "AdaptiveCard",
      "version": "1.4",
      "body": [
        {"type": "TextBlock", "weight": "Bolder", "wrap": true, "text": "{{ message.event_type }}"},
        {"type": "TextBlock", "fontType": "Monospace", "wrap": true,
         "text": "{{ payload | excerpt(3000) | replace('\\', '\\\\') | replace('[', '\\[') }}"}
      ]
    }
  }]
}
"#;

const TO_DISCORD: &str = r#"{
  "content": "**{{ message.event_type }}**\n```json\n{{ payload | excerpt(1500) | replace('`', '´') }}\n```",
  "allowed_mentions": {"parse": []},
  "flags": 4
}
"#;

fn json(body: &str) -> Transformation {
    Transformation {
        body: Some(body.to_owned()),
        content_type: Some("application/json".to_owned()),
        ..Transformation::default()
    }
}

fn headers(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pairs = pairs.iter();
    pairs
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}
