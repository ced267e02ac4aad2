# control 46 47 72
import torch
from torch import nn


class Bert(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb, self.pos = nn.Embedding(40, 32), nn.Embedding(16, 32)
        self.enc = nn.TransformerEncoder(nn.TransformerEncoderLayer(32, 4, 64, 0.1, batch_first=True), 2)
        self.out = nn.Linear(32, 40)

    def forward(self, ids):
        return self.out(self.enc(self.emb(ids) + self.pos(torch.arange(ids.shape[1]))))


torch.manual_seed(0)
text = (torch.arange(4000) * 3 + torch.randint(0, 2, (4000,))) % 39
net = Bert()
opt = torch.optim.AdamW(net.parameters(), 1e-3)
for step in range(12):
    at = torch.randint(0, 3900, (16,)).tolist()
    ids = torch.stack([text[a : a + 16] for a in at])
    hide = torch.rand(ids.shape) < 0.2
    logits = net(ids.masked_fill(hide, 39))
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), ids.masked_fill(~hide, -100).flatten())
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(step, loss.item())
