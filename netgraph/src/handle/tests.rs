//! A handle against someone who plays netgraph badly.

use super::*;
use crate::addr::NodeId;
use crate::codec::generic::GetNodeInfo;
use proptest::prelude::*;

/// Plays back what it was given; remembers what was sent.
#[derive(Default)]
struct Script {
    sent: Vec<Vec<u8>>,
    send_error: Option<Errno>,
    /// What arrives after a send; a token of the request is put in where it says `None`.
    answers: VecDeque<Answer>,
    now: VecDeque<io::Result<Received>>,
}

enum Answer {
    /// A reply to the request just sent, with its token changed by so much.
    Reply(u32),
    Bytes(Vec<u8>),
    Lost,
}

fn received(message: Vec<u8>) -> Received {
    Received { from: SockaddrNg::new(b"[7]:").unwrap(), message }
}

impl Transport for Script {
    fn send(&mut self, _: &SockaddrNg, message: &[u8]) -> io::Result<()> {
        self.sent.push(message.to_vec());
        if let Some(errno) = self.send_error {
            return Err(errno.into());
        }
        let info = crate::codec::generic::NodeInfo {
            name: crate::NodeName::from_wire(b""),
            node_type: crate::TypeName::from_wire(b"hub"),
            id: NodeId(7),
            hooks: 0,
        };
        while let Some(answer) = self.answers.pop_front() {
            let stop = matches!(answer, Answer::Lost);
            self.now.push_back(match answer {
                Answer::Reply(offset) => {
                    let mut request = Message::parse(message).unwrap();
                    request.header.token = request.header.token.wrapping_add(offset);
                    Ok(received(request.reply(&info.to_bytes())))
                }
                Answer::Bytes(bytes) => Ok(received(bytes)),
                Answer::Lost => Err(Errno::ENOBUFS.into()),
            });
            if stop {
                break;
            }
        }
        Ok(())
    }

    fn receive(&mut self, _: Duration) -> io::Result<Option<Received>> {
        self.now.pop_front().transpose()
    }
}

fn handle(answers: Vec<Answer>) -> Handle<Script> {
    Handle::new(Script { answers: answers.into(), ..Script::default() })
}

#[test]
fn replies_to_something_else_are_passed_over() {
    let handle = handle(vec![
        Answer::Reply(u32::MAX),
        Answer::Bytes(b"no message".to_vec()),
        Answer::Bytes(encode(&crate::codec::eiface::LinkUp, 1)),
        Answer::Reply(0),
    ]);
    assert_eq!(handle.request(NodeId(7), &GetNodeInfo).unwrap().id, NodeId(7));
    assert_eq!(handle.take_events().len(), 1, "what nobody asked for is kept");
}

#[test]
fn a_query_is_asked_again_when_its_reply_is_lost() {
    let handle = handle(vec![Answer::Lost, Answer::Reply(0)]);
    assert_eq!(handle.request(NodeId(7), &GetNodeInfo).unwrap().id, NodeId(7));
    assert_eq!(handle.into_transport().sent.len(), 2);
}

#[test]
fn but_not_for_ever() {
    let handle = handle(vec![Answer::Lost, Answer::Lost, Answer::Lost, Answer::Reply(0)]);
    let error = handle.request(NodeId(7), &GetNodeInfo).unwrap_err();
    assert!(matches!(error, Error::ReplyLost { .. }));
    assert_eq!(error.errno(), Some(Errno::ENOBUFS));
    assert_eq!(handle.into_transport().sent.len(), ATTEMPTS);
}

#[test]
fn errors_name_node_operation_and_reason() {
    let script = Script { send_error: Some(Errno::ENXIO), ..Script::default() };
    let error = Handle::new(script).node(NodeId(0x1f)).mkpeer("vlan", "a", "b").unwrap_err();
    assert_eq!(
        error.to_string(),
        "netgraph: mkpeer at [1f]: Device not configured (ENXIO): no such node type; its module (ng_TYPE) is not loaded and could not be"
    );
    let silent = handle(vec![]).with_timeout(Duration::ZERO);
    assert!(silent.own().unwrap_err().to_string().contains("nodeinfo at .: no reply"));
}

#[test]
fn an_effect_does_not_wait() {
    let handle = handle(vec![]);
    handle.node(NodeId(7)).shutdown().unwrap();
    handle.node(NodeId(7)).shutdown().unwrap();
    let sent = handle.into_transport().sent;
    let tokens: Vec<_> = sent.iter().map(|m| Message::parse(m).unwrap().header.token).collect();
    assert_eq!(tokens, [1, 2]);
}

proptest! {
    /// Whatever is answered, there is an answer or an error.
    #[test]
    fn hostile_replies(messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..8)) {
        let answers = messages.into_iter().map(Answer::Bytes).collect();
        prop_assert!(handle(answers).with_timeout(Duration::ZERO).own().is_err());
    }

    #[test]
    fn hostile_payloads(payload in proptest::collection::vec(any::<u8>(), 0..300)) {
        let request = encode(&crate::codec::generic::ListHooks, 1);
        let reply = Message::parse(&request).unwrap().reply(&payload);
        let _ = handle(vec![Answer::Bytes(reply)]).with_timeout(Duration::ZERO).node(NodeId(7)).hooks();
    }
}
