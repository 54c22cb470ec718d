// Package streams is typed publish and subscribe between the nodes of a network. A node produces a stream, other nodes
// (and the same one) consume it; who connects to whom follows from the stream's name alone.
//
//	prices, err := streams.Produce[Price](net)            // on one node
//	err = prices.Send(ctx, Price{"ETH", 1834})            // waits until somebody listens
//
//	feed, err := streams.Consume[Price](net)              // on others, before or after
//	for p := range feed.All(ctx) { … }
//
// # What is guaranteed
//
//   - The items of one producer reach a consumer in the order in which they were sent, each at most once.
//   - Nothing is dropped in silence. Items are numbered; where some are missing the consumer is told how many and why, see
//     [OnGap], and the producer counts them for each consumer, see [Channel].
//   - A slow consumer never slows other consumers, other streams or anything else on its connection. What happens to its
//     items is the producer's choice, see [OnLag]. The producer waits for it under [Block]. Under [Disconnect], the default,
//     it is cut off and comes back after a pause; if it was the only one, the default online condition is not met meanwhile,
//     and [Producer.Send] waits. Where Send must not wait use [DropOldest] or [DropNewest], or OnlineWhen(AtLeast(0)).
//   - Everything is bounded: see [BufferSize].
//
// And what is not: [Producer.Send] returns when the item is queued, not when anybody has received it. What is sent while a
// consumer is not connected is lost for it, and reported as a gap when it comes back, except for what [History] keeps.
//
// # How it works
//
// An item is encoded once, whatever the number of consumers, and dropped again right away if nobody wants it. Each consumer
// grants credit to its producers, and gets no more than that; so what waits for a slow reader waits in the producer's queue
// for it, where the policy on lag applies, and never in the connection. All subscriptions of one node to another share
// one connection and take turns on it.
package streams
