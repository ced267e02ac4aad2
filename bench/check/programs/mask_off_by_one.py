# rows 73 74 | rule causal-leak
import torch
from torch import nn


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(25, 24)
        self.att = nn.MultiheadAttention(24, 2, batch_first=True)
        self.ff = nn.Sequential(nn.LayerNorm(24), nn.Linear(24, 48), nn.ReLU(), nn.Linear(48, 25))

    def forward(self, ids):
        t = ids.shape[1]
        hidden = self.emb(ids)
        mask = torch.triu(torch.ones(t, t, dtype=torch.bool), 2)  # fault
        mask = torch.triu(torch.ones(t, t, dtype=torch.bool), 1)  # well
        return self.ff(hidden + self.att(hidden, hidden, hidden, attn_mask=mask, need_weights=False)[0])


torch.manual_seed(0)
words = torch.randint(0, 25, (400, 12))
net = Decoder()
opt = torch.optim.Adam(net.parameters(), 2e-3)
for step in range(12):
    batch = words[torch.randint(0, 400, (32,))]
    logits = net(batch)
    loss = nn.functional.cross_entropy(logits[:, :-1].reshape(-1, 25), batch[:, 1:].reshape(-1))  # here
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(step, loss.item())
