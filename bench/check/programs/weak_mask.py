# rows 74 | rule causal-leak
import torch
from torch import nn

torch.manual_seed(0)


class Attend(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb, self.q, self.k, self.v = nn.Embedding(30, 16), nn.Linear(16, 16), nn.Linear(16, 16), nn.Linear(16, 16)
        self.out = nn.Linear(16, 30)

    def forward(self, ids):
        h = self.emb(ids)
        score = self.q(h) @ self.k(h).transpose(1, 2) / 4
        hide = torch.ones(ids.shape[1], ids.shape[1]).triu(1)
        score = score - 2.0 * hide  # fault
        score = score.masked_fill(hide.bool(), float("-inf"))  # well
        return self.out(h + score.softmax(-1) @ self.v(h))


net = Attend()
opt = torch.optim.SGD(net.parameters(), 0.5)
line = torch.randint(0, 30, (1000,))
for step in range(15):
    at = torch.randint(0, 980, (10, 1)) + torch.arange(13)
    ids = line[at]
    loss = nn.functional.cross_entropy(net(ids[:, :-1]).transpose(1, 2), ids[:, 1:])  # here
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(step, loss.item())
