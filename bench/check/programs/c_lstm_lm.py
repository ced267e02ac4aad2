# control 1 53 70 82
import torch
from torch import nn

torch.manual_seed(0)
vocab = 25
stream = torch.randint(0, vocab, (2400,)).view(8, -1)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.drop, self.emb = nn.Dropout(0.2), nn.Embedding(vocab, 32)
        self.rnn, self.out = nn.LSTM(32, 32, 2, dropout=0.2, batch_first=True), nn.Linear(32, vocab)

    def forward(self, x, state):
        y, state = self.rnn(self.drop(self.emb(x)), state)
        return self.out(self.drop(y)), state


net, state = Model(), None
lr = 5.0
for start in range(0, 280, 10):
    x, y = stream[:, start : start + 10], stream[:, start + 1 : start + 11]
    net.zero_grad()
    if state is not None:
        state = tuple(s.detach() for s in state)
    logits, state = net(x, state)
    loss = nn.functional.cross_entropy(logits.reshape(-1, vocab), y.reshape(-1))
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 0.25)
    for p in net.parameters():
        p.data.add_(p.grad, alpha=-lr)
    print(start, loss.item())
